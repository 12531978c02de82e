//! Programs that tests run to their end, and what they said.

use std::io::Write;
use std::process::{Command, Stdio};

/// What a program said.
pub(crate) struct Output {
    line: String,
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end with something on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let line = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{line} is needed by the tests (scripts/test installs it): {e}"));
    // A program that fails at once may not read its input.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { line, ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

impl Output {
    /// It succeeded and said this among other things.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(self.ok && said.contains(text), "{} should succeed and say {text:?}, said:\n{said}", self.line);
    }

    /// It failed and said this among other things.
    #[track_caller]
    pub(crate) fn fails(&self, text: &str) {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(!self.ok && said.contains(text), "{} should fail and say {text:?}, said:\n{said}", self.line);
    }
}
