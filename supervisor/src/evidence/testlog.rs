//! The frame of `test.log`: two lines before the command's output, one after it. In between stands what the
//! command printed, byte for byte; the frame counts it, so nothing printed can pass for the frame.

use serde::{Deserialize, Serialize};

/// The first line.
const TITLE: &str = "# proctor test.log v1";
const BEGIN: &str = "# begin: ";
const END: &str = "# end: ";

/// The second line: what is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestBegin {
    /// The run.
    pub run_id: String,
    /// The command, as given; null where there is none.
    pub command: Option<String>,
}

/// The last line: how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestEnd {
    /// Bytes of output between the frames (without the line feed that may have been added to end them).
    pub output_bytes: u64,
    /// Exit code; null where a signal ended it or it did not run.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it did not run, or why output is missing; null where neither is so.
    pub note: Option<String>,
}

/// The lines before the output.
#[must_use]
pub fn header(run_id: &str, command: Option<&str>) -> Vec<u8> {
    let begin = TestBegin { run_id: run_id.to_owned(), command: command.map(str::to_owned) };
    format!("{TITLE}\n{BEGIN}{}\n", json(&begin)).into_bytes()
}

/// The line after the output. `newline` says that the output did not end with a line feed.
#[must_use]
pub fn trailer(end: &TestEnd, newline: bool) -> Vec<u8> {
    format!("{}{END}{}\n", if newline { "\n" } else { "" }, json(end)).into_bytes()
}

fn json<T: Serialize>(value: &T) -> String {
    // Structs of strings and numbers always serialize.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Longest frame that is read, bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// Reads the frame from a log's first and last bytes (each at most [`MAX_FRAME`]) and its size.
///
/// # Errors
/// What is wrong with the frame.
pub fn parse(first: &[u8], last: &[u8], size: u64) -> Result<(TestBegin, TestEnd), String> {
    let rest = first.strip_prefix(TITLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
    let rest = rest.ok_or("its first line is not that of a test log")?;
    let line = rest.strip_prefix(BEGIN.as_bytes()).and_then(|rest| rest.split(|b| *b == b'\n').next());
    let line = line.ok_or("its second line does not say what was run")?;
    let begin =
        serde_json::from_slice::<TestBegin>(line).map_err(|error| format!("its second line: {error}"))?;
    let head = (TITLE.len() + 1 + BEGIN.len() + line.len() + 1) as u64;

    let whole = last.strip_suffix(b"\n").ok_or("its last line is cut")?;
    let start = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    let line =
        whole[start..].strip_prefix(END.as_bytes()).ok_or("its last line does not say how it ended")?;
    let end = serde_json::from_slice::<TestEnd>(line).map_err(|error| format!("its last line: {error}"))?;
    let tail = (END.len() + line.len() + 1) as u64;
    let between = size.checked_sub(head + tail).ok_or("its frame overlaps")?;
    if between != end.output_bytes && between != end.output_bytes.saturating_add(1) {
        return Err(format!("it says {} bytes of output and holds {between}", end.output_bytes));
    }
    Ok((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(output: &[u8]) -> TestEnd {
        TestEnd { output_bytes: output.len() as u64, exit_code: Some(1), signal: None, note: None }
    }

    fn log(output: &[u8]) -> Vec<u8> {
        let newline = output.last().is_some_and(|byte| *byte != b'\n');
        [header("r-1", Some("make \"x\"\n")), output.to_vec(), trailer(&end(output), newline)].concat()
    }

    #[test]
    fn the_frame_is_read_back_whatever_is_in_between() {
        let fake = trailer(&TestEnd { exit_code: Some(0), ..end(b"") }, true);
        for output in [&b""[..], b"ok\n", b"no newline", b"\xff\0\n\n", &fake] {
            let log = log(output);
            let (begin, found) = parse(&log, &log, log.len() as u64).unwrap();
            assert_eq!(begin.command.as_deref(), Some("make \"x\"\n"));
            assert_eq!(found, end(output));
        }
    }

    #[test]
    fn a_log_cut_at_a_faked_end_does_not_add_up() {
        let fake = trailer(&TestEnd { exit_code: Some(0), ..end(b"") }, true);
        let output = [b"running\n", &fake[..]].concat();
        let whole = log(&output);
        let cut = &whole[..whole.len() - trailer(&end(&output), false).len()];
        let error = parse(cut, cut, cut.len() as u64).unwrap_err();
        assert!(error.contains("bytes of output and holds"), "{error}");
    }

    #[test]
    fn what_is_no_frame_is_said() {
        for (bytes, why) in [
            (&b""[..], "first line"),
            (b"# proctor test.log v1\nx\n", "second line does not say"),
            (b"# proctor test.log v1\n# begin: {}\n", "second line: missing field"),
        ] {
            let error = parse(bytes, bytes, bytes.len() as u64).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let log = log(b"x");
        assert!(parse(&log, &log[..log.len() - 1], log.len() as u64).unwrap_err().contains("cut"));
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_framed_and_any_change_of_the_frame_shows(
            output in proptest::collection::vec(0..=255_u8, 0..200),
            command in ".{0,40}",
            at in proptest::prelude::any::<proptest::sample::Index>(),
            bits in 1..=255_u8,
        ) {
            let newline = output.last().is_some_and(|byte| *byte != b'\n');
            let said = end(&output);
            let mut log = [header("r-1", Some(&command)), output, trailer(&said, newline)].concat();
            let (begin, found) = parse(&log, &log, log.len() as u64).unwrap();
            proptest::prop_assert_eq!(begin.command.as_deref(), Some(command.as_str()));
            proptest::prop_assert_eq!(&found, &said);
            let at = at.index(log.len());
            log[at] ^= bits;
            // Never a panic; what is read all the same still adds up.
            if let Ok((_, found)) = parse(&log, &log, log.len() as u64) {
                proptest::prop_assert!(found.output_bytes <= log.len() as u64);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            first in proptest::collection::vec(0..=255_u8, 0..200),
            last in proptest::collection::vec(0..=255_u8, 0..200),
            size in proptest::prelude::any::<u64>(),
        ) {
            let framed = [b"# proctor test.log v1\n# begin: {\"run_id\":\"\",\"command\":null}\n".to_vec(), first.clone()].concat();
            let _ = (parse(&first, &last, size), parse(&framed, &last, size));
            let ended = [last, b"\n# end: {\"output_bytes\":18446744073709551615,\"exit_code\":0,\"signal\":null,\"note\":null}\n".to_vec()].concat();
            let _ = parse(&framed, &ended, size);
        }
    }
}
