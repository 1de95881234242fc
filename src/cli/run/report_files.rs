//! The files of a run's reports.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::RunReportOptions;
use crate::cli::Failure;
use crate::report::ci::junit::junit;
use crate::report::ci::markdown::markdown;
use crate::report::ci::record::RunRecord;

/// The variable with which GitHub names the file of a step's summary.
const GITHUB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// The files that a run writes.
pub(super) struct ReportFiles {
    junit: Option<PathBuf>,
    summary: Option<SummaryFile>,
    record: Option<PathBuf>,
}

/// A summary, and the text that is already in its file.
struct SummaryFile {
    path: PathBuf,
    before: String,
}

impl ReportFiles {
    /// The files that the options name. An entry of a matrix writes only its record.
    pub fn of(options: &RunReportOptions) -> Result<Self, Failure> {
        if let Some(record) = &options.entry_record {
            return Ok(Self { junit: None, summary: None, record: Some(record.clone()) });
        }
        let named =
            options.summary.as_ref().map(|path| SummaryFile { path: path.clone(), before: String::new() });
        let summary = match named {
            Some(summary) => Some(summary),
            None => github_summary()?,
        };
        Ok(Self { junit: options.junit.clone(), summary, record: None })
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.junit.is_some() || self.summary.is_some() || self.record.is_some()
    }

    /// Replaces the contents of all files.
    pub fn write(&self, records: &[RunRecord]) -> Result<(), Failure> {
        if let Some(path) = &self.junit {
            let text = junit(records).map_err(|error| failed(path, &io::Error::other(error)))?;
            write(path, text.as_bytes())?;
        }
        if let Some(SummaryFile { path, before }) = &self.summary {
            write(path, format!("{before}{}", markdown(records)).as_bytes())?;
        }
        if let (Some(path), Some(record)) = (&self.record, records.first()) {
            let json = serde_json::to_vec(record).map_err(|error| failed(path, &error.into()))?;
            write(path, &json)?;
        }
        Ok(())
    }
}

/// The summary of a step on GitHub. Other commands of the step may have written to it.
fn github_summary() -> Result<Option<SummaryFile>, Failure> {
    let Some(path) = std::env::var_os(GITHUB_SUMMARY).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    match fs::read_to_string(&path) {
        Ok(before) => Ok(Some(SummaryFile { path, before })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Some(SummaryFile { path, before: String::new() }))
        }
        Err(error) => Err(failed(&path, &error)),
    }
}

/// Replaces a file in one step, so that its readers never see a part. A pipe or a device is written to directly.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let replace = || -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mode = fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    replace().map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let hint = "name a file in a directory that can be written".to_owned();
    Failure::failed(format!("cannot write the report `{}`: {error}", path.display()), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ci::record::RunEnd;
    use jiff::Timestamp;

    fn record() -> RunRecord {
        let mut record = RunRecord::new(Vec::new(), "true".to_owned(), Timestamp::UNIX_EPOCH);
        record.end = RunEnd::Exited { code: 0 };
        record
    }

    #[test]
    fn reports_are_replaced_and_their_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports/junit.xml");
        let options = RunReportOptions { junit: Some(path.clone()), ..RunReportOptions::default() };
        let files = ReportFiles { summary: None, ..ReportFiles::of(&options).unwrap() };

        files.write(&[record()]).unwrap();
        files.write(&[record(), record()]).unwrap();

        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<testsuite ").count(), 2);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_summary_keeps_what_the_step_wrote_before() {
        let folder = tempfile::tempdir().unwrap();
        let summary = SummaryFile { path: folder.path().join("summary"), before: "# Build\n".to_owned() };
        let files = ReportFiles { junit: None, summary: Some(summary), record: None };

        files.write(&[record()]).unwrap();
        files.write(&[record()]).unwrap();

        let text = fs::read_to_string(folder.path().join("summary")).unwrap();
        assert!(text.starts_with("# Build\n### ✅ sandbox run: passed"), "{text}");
        assert_eq!(text.matches("sandbox run").count(), 1);
    }

    #[test]
    fn a_report_that_cannot_be_written_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("file/junit.xml");
        let files = ReportFiles { junit: Some(path.clone()), summary: None, record: None };
        let error = files.write(&[record()]).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot write the report `{}`", path.display())));
    }
}
