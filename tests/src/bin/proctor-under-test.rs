//! The supervisor's `main`, in a binary of this package, so that the suite finds it by `CARGO_BIN_EXE_*`.

fn main() -> std::process::ExitCode {
    proctor::cli::main()
}
