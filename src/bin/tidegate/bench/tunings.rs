//! What `Rnn::tune` found out about a device, kept in the user's cache folder.

use std::path::{Path, PathBuf};

use tidegate::bench::Workload;
use tidegate::{Context, Error, Mode, Rnn, SeqShape, Tried, Tuning};

/// The tuning of one device, and the file that it comes from and goes to.
#[derive(Debug, Default)]
pub struct Tunings {
    known: Tuning,
    /// None where the user has no cache folder: then nothing is kept.
    path: Option<PathBuf>,
    /// Workloads that were known when they were asked for, and those that were measured.
    asked: [usize; 2],
}

impl Tunings {
    /// What earlier runs found out about this device. A file that cannot be read, or is of another device, counts as none.
    pub fn load(ctx: &Context) -> Self {
        let path = dirs::cache_dir().map(|folder| folder.join("tidegate").join(file_name(&Tuning::device_of(ctx))));
        let known = path.as_deref().and_then(read).filter(|tuning| tuning.device() == Tuning::device_of(ctx));
        Self { known: known.unwrap_or_default(), path, asked: [0; 2] }
    }

    /// Lets a network run as it is fastest, as far as that is known.
    pub fn apply(&self, rnn: Rnn) -> Result<Rnn, Error> {
        rnn.with_tuning(&self.known)
    }

    /// Measures what is not known yet of a workload's network. What was found is kept for the next run, if it can be. Gives all that
    /// was tried, now or then.
    pub fn tune(&mut self, rnn: &Rnn, &Workload { shape, mode, .. }: &Workload) -> Result<Vec<Tried>, Error> {
        if !self.is_known_for(rnn, shape, mode) {
            self.known.merge(pollster::block_on(rnn.tune(shape, mode))?)?;
            self.save();
            self.asked[1] += 1;
        } else if shape.seq_len > 1 {
            self.asked[0] += 1;
        }
        Ok(rnn.tried(&self.known, shape, mode).to_vec())
    }

    /// Whether a workload has nothing left to be measured.
    pub fn is_known(&self, rnn: &Rnn, workload: &Workload) -> bool {
        self.is_known_for(rnn, workload.shape, workload.mode)
    }

    /// A single step has nothing to choose.
    fn is_known_for(&self, rnn: &Rnn, shape: SeqShape, mode: Mode) -> bool {
        shape.seq_len <= 1 || self.has(rnn, shape, mode)
    }

    /// Whether something was measured that a network of this shape runs by.
    pub fn has(&self, rnn: &Rnn, shape: SeqShape, mode: Mode) -> bool {
        rnn.is_known_to(&self.known, shape, mode)
    }

    /// The file that is read and written.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What was known and what was measured, for people.
    pub fn summary(&self) -> String {
        let [before, now] = self.asked;
        let Some(file) = self.path.as_deref().map(Path::display) else { return String::new() };
        let rows = |count: usize| if count == 1 { "1 row".into() } else { format!("{count} rows") };
        match (before, now) {
            (0, 0) => String::new(),
            (_, 0) => format!("tuned before: {}, from {file}", rows(before)),
            (0, _) => format!("tuned now: {}, kept in {file}", rows(now)),
            _ => format!("tuned before: {}, from {file}; tuned now and kept there: {}", rows(before), rows(now)),
        }
    }

    /// Lets strategy persistent be dropped where it keeps failing.
    pub fn record(&mut self, repairs: u32) {
        if repairs > 0 {
            self.known.record([0, repairs, 0, 0]);
            self.save();
        }
    }

    /// A cache that cannot be written costs time, nothing else.
    fn save(&self) {
        let Some(path) = &self.path else { return };
        let Ok(text) = serde_json::to_string_pretty(&self.known) else { return };
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = crate::args::files::write(path, text.as_bytes());
    }
}

fn read(path: &Path) -> Option<Tuning> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// One file a device and version of ours: other kernels have other times.
fn file_name(device: &str) -> String {
    let plain: String = device.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("tuning-{}-{plain}.json", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_plain() {
        let name = file_name("NVIDIA H200 (vulkan, 555.42/beta ü)");
        assert!(name.starts_with("tuning-") && name.ends_with("nvidia-h200--vulkan--555-42-beta---.json"), "{name}");
    }

    #[test]
    fn a_damaged_file_counts_as_none() {
        let path = std::env::temp_dir().join(format!("tidegate-tunings-{}", std::process::id()));
        std::fs::write(&path, "{\"device\": 3").unwrap();
        assert!(read(&path).is_none());
        std::fs::write(&path, serde_json::to_string(&Tuning::default()).unwrap()).unwrap();
        assert_eq!(read(&path), Some(Tuning::default()));
        std::fs::remove_file(&path).unwrap();
    }
}
