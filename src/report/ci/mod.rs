//! Reports of `run` for continuous integration: what a run did, as data; its JUnit report, its Markdown summary and the
//! table of a matrix; groups in the logs of GitHub and GitLab.

pub mod capture;
pub mod groups;
pub mod junit;
pub mod markdown;
pub mod matrix_table;
pub mod record;
pub mod recorder;
#[cfg(test)]
mod test_records;
