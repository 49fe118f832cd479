//! A safetensors file as the readers of networks see it: with the names that its metadata tie to others.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::safetensors::{open_safetensors, safetensors_metadata};
use crate::error::{Error, Result};

/// Most names that an error lists.
const LISTED: usize = 12;

/// How often a file may hold its own bytes by tied names, so that no small file asks for much memory.
const MOST_TIED: usize = 64;

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
        // In the order of their names, so that of two errors it is always the same.
        let mut metadata = BTreeMap::new();
        metadata.extend(safetensors_metadata(bytes)?);
        let layout = metadata.remove("layout");
        let is_there = |name: &str| tensors.tensor(name).is_ok();
        let mut tied = BTreeMap::new();
        for (name, kept) in metadata.iter().filter(|(name, _)| !is_there(name)) {
            match last_of_chain(&metadata, kept, is_there) {
                Some(last) => drop(tied.insert(name.clone(), last.to_string())),
                None if is_tie(name, kept) => {
                    return Err(Error::Config(format!(
                        "`{name}`: the metadata say that it shares `{kept}`, which the file lacks"
                    )));
                }
                // Metadata of another kind.
                None => {}
            }
        }
        let tied_bytes: usize = tied.values().filter_map(|kept| Some(tensors.tensor(kept).ok()?.data().len())).sum();
        if tied_bytes > MOST_TIED * bytes.len() {
            let (most, names) = (MOST_TIED * bytes.len(), tied.len());
            let what = format!("{names} tied names stand for {tied_bytes} bytes, at most {most} ({MOST_TIED} times the file's)");
            return Err(Error::Config(what));
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

    /// Refuses a prefix that no name has.
    pub fn check_prefix(&self, prefix: &str) -> Result<()> {
        if self.names().iter().any(|name| name.starts_with(prefix)) || prefix.is_empty() {
            return Ok(());
        }
        Err(Error::Config(format!("no tensor's name begins with `{prefix}`; the file has {}", self.listed())))
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

/// Names or prefixes, for an error.
pub(super) fn quoted(names: &BTreeSet<&str>) -> String {
    let listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(LISTED);
    if more > 0 { format!("{} and {more} more", listed.join(", ")) } else { listed.join(", ") }
}

/// Most names that may share one after the other.
const LONGEST_CHAIN: usize = 64;

/// The tensor of the file at the end of a chain of names that share, if it ends at one.
fn last_of_chain<'m>(
    metadata: &'m BTreeMap<String, String>,
    kept: &'m String,
    is_there: impl Fn(&str) -> bool,
) -> Option<&'m String> {
    let chain = std::iter::successors(Some(kept), |name| metadata.get(*name));
    chain.take(LONGEST_CHAIN).find(|name| is_there(name))
}

/// Whether metadata that lead to no tensor speak of one all the same: their name is one of a recurrent layer, or both are of parameters.
fn is_tie(name: &str, kept: &str) -> bool {
    let recurrent = ["weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "recurrent_kernel"];
    let is_parameter = |name: &str| ["weight", "bias", "kernel"].iter().any(|part| name.contains(part));
    recurrent.iter().any(|part| name.contains(part)) || (is_parameter(name) && is_parameter(kept))
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
        // Of several always the same.
        let broken =
            [("weight_hh_l2", "c"), ("weight_hh_l1", "b"), ("weight_ih_l1", "d"), ("weight_ih_l2", "e"), ("bias_hh_l1", "a")];
        for _ in 0..8 {
            let error = Model::from_weights(&file(&RNN, &broken), None).unwrap_err().to_string();
            assert!(error.contains("`bias_hh_l1`") && error.contains("shares `a`"), "{error}");
        }
        // One may share what itself shares; a circle ends at nothing.
        let chain = [("weight_ih_l2", "weight_ih_l1"), ("weight_hh_l2", "weight_hh_l1")];
        let bytes = file(&RNN, &[&tied[..], &chain].concat());
        assert_eq!(Model::from_weights(&bytes, None).unwrap().config.num_layers, 3);
        let circle = [("weight_ih_l1", "weight_ih_l2"), ("weight_ih_l2", "weight_ih_l1")];
        let error = Model::from_weights(&file(&RNN, &circle), None).unwrap_err().to_string();
        assert!(error.contains("shares `weight_ih_l") && error.contains("lacks"), "{error}");
        // A file that is small stays so.
        let ties: Vec<(String, String)> = (1..200).map(|layer| (format!("weight_hh_l{layer}"), "big".into())).collect();
        let ties: Vec<(&str, &str)> = ties.iter().map(|(name, kept)| (&**name, &**kept)).collect();
        let error = Model::from_weights(&file(&[("big", &[32, 32])], &ties), None).unwrap_err().to_string();
        assert!(error.contains("199 tied names stand for 815104 bytes, at most "), "{error}");
        // Of many names an error lists some.
        let many: Vec<(String, &[usize])> = (0..40).map(|k| (format!("n{k:02}.weight_ih_l0"), &[2usize, 2][..])).collect();
        let many: Vec<(&str, &[usize])> = many.iter().map(|(name, shape)| (&**name, *shape)).collect();
        let error = Model::from_weights(&file(&many, &[]), None).unwrap_err().to_string();
        assert!(error.contains("40 networks in one file, behind `n00.`") && error.contains("`n11.` and 28 more"), "{error}");
        // Metadata that say something else.
        let other = [("bias", "true"), ("weight_decay", "0.01"), ("kernel", "adamw"), ("weights", "of a model")];
        assert_eq!(Model::from_weights(&file(&RNN, &other), None).unwrap().config.num_layers, 1);
        // A tied tensor that is no part of the network is unused as any other.
        let error = Model::from_weights(&file(&RNN, &[("fc.weight", "weight_ih_l0")]), None).unwrap_err().to_string();
        assert!(error.contains("unused tensor `fc.weight`"), "{error}");
    }
}
