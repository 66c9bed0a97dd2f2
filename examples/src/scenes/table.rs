//! What a scene has shown: a table, what to see in it, and whether what the crate promises was kept.

use std::fmt;

use crate::measure::{HEADER, Row};

pub struct Table {
    pub title: String,
    /// Those beside the columns of every run.
    pub columns: &'static [&'static str],
    pub lines: Vec<(Row, Vec<String>)>,
    /// What to see.
    pub note: &'static str,
    /// What was promised, if it was not kept.
    pub broken: Vec<String>,
}

impl Table {
    pub fn new(title: String, columns: &'static [&'static str], note: &'static str) -> Self {
        Self { title, columns, lines: Vec::new(), note, broken: Vec::new() }
    }

    /// Notes it if that does not hold.
    pub fn promise(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.broken.is_empty(), "{}: {}", self.title, self.broken.join("; "));
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        write!(f, "{HEADER}")?;
        for column in self.columns {
            write!(f, "{column:>12}")?;
        }
        writeln!(f)?;
        for (row, more) in &self.lines {
            write!(f, "{row}")?;
            for number in more {
                write!(f, "{number:>12}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_told() {
        let mut table = Table::new("Noon".to_owned(), &[], "");
        table.promise(true, || unreachable!("it holds"));
        table.check().unwrap();
        table.promise(false, || "3 answers were stale".to_owned());
        assert_eq!(table.check().unwrap_err().to_string(), "Noon: 3 answers were stale");
    }
}
