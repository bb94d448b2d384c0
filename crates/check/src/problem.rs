//! What is wrong with a file, and how it is shown.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field: `spec.indexes[0].columns`. Empty: the whole document.
    pub path: String,
    /// The line in the file, from 1; 0: there is no file.
    pub line: u64,
    /// The column in the line, from 1; 0: there is no file.
    pub column: u64,
    /// What is wrong, and the way out.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: &str, (line, column): (u64, u64), message: String) -> Self {
        Self { path: path.to_owned(), line, column, message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// All that is wrong with a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckError {
    /// The file's name; empty: there is no file.
    pub file: String,
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl std::error::Error for CheckError {}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:{}:{}: ", self.file, problem.line, problem.column)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
