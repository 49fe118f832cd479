//! Sequences of frames, each with a class, out of a safetensors file.

use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::import::open_safetensors;

use crate::Result;

/// What is trained on, and what is held out.
#[derive(Debug)]
pub struct Data {
    pub train: Sequences,
    pub test: Sequences,
}

/// Sequences of different lengths.
#[derive(Debug)]
pub struct Sequences {
    pub channels: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// All frames one after another.
    frames: Vec<f32>,
    /// Where each sequence starts among the frames, and the end of the last.
    starts: Vec<usize>,
    pub labels: Vec<u32>,
}

impl Data {
    /// `train.safetensors` and `test.safetensors` of a folder. Both must know the same classes and channels.
    pub fn read(folder: &Path) -> Result<Self> {
        let [train, test] = ["train.safetensors", "test.safetensors"].map(|name| Sequences::read(&folder.join(name)));
        let (train, test) = (train?, test?);
        let folder = folder.display();
        if train.channels != test.channels {
            return Err(format!("{folder}: {} channels to train on, {} to test with", train.channels, test.channels).into());
        }
        if train.classes != test.classes {
            return Err(format!("{folder}: classes {:?} to train on, {:?} to test with", train.classes, test.classes).into());
        }
        Ok(Self { train, test })
    }

    /// Frames of the longest sequence.
    pub fn longest(&self) -> usize {
        let lengths = |sequences: &Sequences| (0..sequences.len()).map(|at| sequences.length(at)).max();
        lengths(&self.train).max(lengths(&self.test)).unwrap_or_default()
    }
}

impl Sequences {
    /// A file with `frames` [N,channels] F32 or F16, `lengths` [S] and `labels` [S] I32, and `classes`, a JSON list of names, as metadata.
    fn read(path: &Path) -> Result<Self> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = fs::read(path).map_err(|e| named(&e))?;
        Self::parse(&bytes).map_err(|e| named(&e).into())
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file = open_safetensors(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get("classes"));
        let json = json.ok_or("its metadata have no `classes`")?;
        let classes: Vec<String> = serde_json::from_str(json).map_err(|e| format!("`classes`: {e}"))?;

        let frames = tensor(&file, "frames")?;
        let &[count, channels] = frames.shape() else {
            return Err(format!("`frames`: shape {:?}, must be [N,channels]", frames.shape()).into());
        };
        let frames = floats(&frames)?;
        if let Some(at) = frames.iter().position(|value| !value.is_finite()) {
            return Err(format!("`frames`: channel {} of frame {} is {}", at % channels, at / channels, frames[at]).into());
        }
        let [lengths, labels] = ["lengths", "labels"].map(|name| integers(&file, name));
        let (lengths, labels) = (lengths?, labels?);
        if lengths.is_empty() || lengths.len() != labels.len() {
            return Err(format!("{} `lengths` and {} `labels`: one of each a sequence", lengths.len(), labels.len()).into());
        }
        let mut starts = vec![0];
        for (at, &length) in lengths.iter().enumerate() {
            let length = usize::try_from(length).ok().filter(|&length| length > 0);
            let length = length.ok_or_else(|| format!("`lengths`[{at}] is {}, must be at least 1", lengths[at]))?;
            starts.push(starts[at] + length);
        }
        if starts[lengths.len()] != count {
            return Err(format!("`lengths` add up to {}, `frames` has {count}", starts[lengths.len()]).into());
        }
        let label = |(at, &label): (usize, &i32)| {
            let known = u32::try_from(label).ok().filter(|&label| (label as usize) < classes.len());
            known.ok_or_else(|| format!("`labels`[{at}] is {label}, there are {} classes", classes.len()))
        };
        let labels = labels.iter().enumerate().map(label).collect::<Result<_, _>>()?;
        Ok(Self { channels, classes, frames, starts, labels })
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn length(&self, at: usize) -> usize {
        self.starts[at + 1] - self.starts[at]
    }

    /// One frame of one sequence.
    pub fn frame(&self, at: usize, t: usize) -> &[f32] {
        &self.frames[(self.starts[at] + t) * self.channels..][..self.channels]
    }
}

fn tensor<'a>(file: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>> {
    file.tensor(name).map_err(|_| format!("there is no tensor `{name}`").into())
}

fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()),
        Dtype::F16 => Ok(bytes.as_chunks().0.iter().map(|&word| half::f16::from_le_bytes(word).to_f32()).collect()),
        other => Err(format!("`frames`: dtype {other}, must be F32 or F16").into()),
    }
}

fn integers(file: &SafeTensors<'_>, name: &str) -> Result<Vec<i32>> {
    let tensor = tensor(file, name)?;
    if tensor.dtype() != Dtype::I32 || tensor.shape().len() != 1 {
        return Err(format!("`{name}`: {} {:?}, must be I32 [sequences]", tensor.dtype(), tensor.shape()).into());
    }
    Ok(tensor.data().as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).collect())
}
