//! A safetensors file as the readers of networks see it: with the names that its metadata tie to others.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::safetensors::{open_safetensors, safetensors_metadata};
use crate::error::{Error, Result};

/// Most names that an error lists.
const LISTED: usize = 12;

/// A file, and the names of tensors that share another's values: `safetensors.torch.save_model` writes such a tensor once, and the
/// other names into the metadata.
pub(super) struct TensorFile<'data> {
    tensors: SafeTensors<'data>,
    /// The tensor in the file that each further name stands for.
    tied: BTreeMap<String, String>,
    /// Who laid the tensors out, if the metadata say it.
    pub layout: Option<String>,
}

impl<'data> TensorFile<'data> {
    pub fn open(bytes: &'data [u8]) -> Result<Self> {
        let tensors = open_safetensors(bytes)?;
        let mut metadata = safetensors_metadata(bytes)?;
        let layout = metadata.remove("layout");
        let is_there = |name: &str| tensors.tensor(name).is_ok();
        let mut tied = BTreeMap::new();
        for (name, kept) in metadata {
            if is_there(&name) {
                continue;
            }
            if is_there(&kept) {
                tied.insert(name, kept);
            } else if is_weight(&name) {
                return Err(Error::Config(format!("`{name}`: the metadata say that it shares `{kept}`, which the file lacks")));
            }
        }
        Ok(Self { tensors, tied, layout })
    }

    /// In their order, those that share another's values too.
    pub fn names(&self) -> BTreeSet<&str> {
        self.tensors.names().into_iter().chain(self.tied.keys().map(String::as_str)).collect()
    }

    pub fn get(&self, name: &str) -> Option<TensorView<'data>> {
        let name = self.tied.get(name).map_or(name, String::as_str);
        self.tensors.tensor(name).ok()
    }

    pub fn find(&self, name: &str) -> Result<TensorView<'data>> {
        self.get(name).ok_or_else(|| Error::NotInFile { name: name.into(), found: self.listed() })
    }

    /// Names and shapes, for an error.
    fn listed(&self) -> String {
        let names = self.names();
        let shape = |name: &&str| self.get(name).map_or_else(Vec::new, |view| view.shape().to_vec());
        let mut listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}` {:?}", shape(name))).collect();
        match names.len() {
            0 => listed.push("no tensors".into()),
            count if count > LISTED => listed.push(format!("{} more", count - LISTED)),
            _ => {}
        }
        listed.join(", ")
    }
}

/// Whether a name is one that a network's parameters have.
fn is_weight(name: &str) -> bool {
    ["weight", "bias", "kernel"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::Dtype;

    use super::*;
    use crate::import::{Model, read_tensors};

    fn file(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> Vec<u8> {
        let data = vec![0u8; 4096];
        let views = tensors.iter().map(|&(name, shape)| {
            let bytes = 4 * shape.iter().product::<usize>();
            (name, TensorView::new(Dtype::F32, shape.to_vec(), &data[..bytes]).unwrap())
        });
        let metadata: HashMap<String, String> = metadata.iter().map(|&(name, kept)| (name.into(), kept.into())).collect();
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    const RNN: [(&str, &[usize]); 2] = [("weight_ih_l0", &[2, 2]), ("weight_hh_l0", &[2, 2])];

    #[test]
    fn tied_layers_are_layers() {
        let tied = [("weight_ih_l1", "weight_ih_l0"), ("weight_hh_l1", "weight_hh_l0"), ("format", "pt")];
        let bytes = file(&RNN, &tied);
        assert_eq!(Model::from_weights(&bytes, None).unwrap().config.num_layers, 2);
        let names: Vec<String> = read_tensors(&bytes).unwrap().into_iter().map(|tensor| tensor.name).collect();
        assert_eq!(names, ["weight_hh_l0", "weight_hh_l1", "weight_ih_l0", "weight_ih_l1"]);
        // Half a layer is none, and what is tied to a tensor that is not there is named.
        let error = Model::from_weights(&file(&RNN, &tied[..1]), None).unwrap_err().to_string();
        assert!(error.contains("missing tensor `weight_hh_l1`; the file has `weight_hh_l0` [2, 2], "), "{error}");
        let error = Model::from_weights(&file(&RNN, &[("weight_ih_l1", "gone")]), None).unwrap_err().to_string();
        assert!(error.contains("`weight_ih_l1`") && error.contains("`gone`"), "{error}");
        // A tied tensor that is no part of the network is unused as any other.
        let error = Model::from_weights(&file(&RNN, &[("fc.weight", "weight_ih_l0")]), None).unwrap_err().to_string();
        assert!(error.contains("unused tensor `fc.weight`"), "{error}");
    }
}
