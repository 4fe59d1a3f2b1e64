//! The program `proctor`: everything is in the library.

fn main() -> std::process::ExitCode {
    proctor::cli::main()
}
