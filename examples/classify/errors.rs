//! What a model takes for something else.

use std::collections::BTreeMap;

use crate::data::Sequences;
use crate::train::Verdict;

/// One line for each pair of classes that is confused, the most frequent first.
pub fn confusions(sequences: &Sequences, verdict: &Verdict) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (label, predicted) in sequences.labels.iter().zip(&verdict.predicted).filter(|(label, predicted)| label != predicted) {
        *counts.entry((*label, *predicted)).or_insert(0) += 1;
    }
    let mut counts: Vec<((u32, u32), usize)> = counts.into_iter().collect();
    // Stable: of equal counts the first class stays first.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let name = |class: u32| sequences.classes.get(class as usize).map_or("nothing", String::as_str);
    let line = |((label, predicted), count)| {
        let all = sequences.labels.iter().filter(|&&other| other == label).count();
        format!("{count} of {all} of class {} taken for {}", name(label), name(predicted))
    };
    counts.into_iter().map(line).collect()
}
