//! One line of progress: redrawn in place on a terminal, a few plain lines elsewhere.

use std::{
    fmt,
    io::{IsTerminal, Write, stdout},
    time::{Duration, Instant},
};

/// The line. It is gone from the terminal when this is dropped.
pub struct Progress {
    terminal: bool,
    shown: Instant,
}

impl Progress {
    /// Nothing is shown yet: what takes only a moment needs no progress.
    pub fn start() -> Self {
        Self { terminal: stdout().is_terminal(), shown: Instant::now() }
    }

    /// Shows `line`, unless another was shown a moment ago.
    pub fn show(&mut self, line: fmt::Arguments<'_>) {
        let pause = Duration::from_millis(if self.terminal { 100 } else { 3_000 });
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        if self.terminal {
            print!("\r\x1b[2K{line}");
            // Without it the line would wait for its end. That it cannot be shown stops no work.
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }
}
