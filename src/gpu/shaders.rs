//! Every WGSL file of `shaders/` once, but for those of cells, which their Rust files include. A file names the files it needs in a line `// needs: shared/edges shared/restore`.

macro_rules! files {
    ($($name:literal,)*) => {
        /// Name and text.
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl"))),)*];
    };
}

files! {
    "operand/by_scalars",
    "operand/by_shuffle",
    "operand/by_vectors",
    "operand/weights_by_four",
    "operand/weights_by_one",
    "product/column_sum",
    "product/cooperative",
    "product/cpu",
    "product/cpu_memory",
    "product/cpu_shuffle",
    "product/reduce",
    "product/tiled",
    "prologue/clear_exchange",
    "prologue/clear_padding",
    "prologue/pack",
    "prologue/pack_halves",
    "prologue/pack_hold",
    "prologue/prepare",
    "prologue/previous_states",
    "prologue/residency",
    "projection/copy",
    "projection/enter_gates",
    "projection/enter_operands",
    "projection/final_states",
    "projection/initial_gradients",
    "projection/read_gradients",
    "recurrence/batched_backward",
    "recurrence/batched_forward",
    "recurrence/persistent_backward",
    "recurrence/persistent_forward",
    "recurrence/resident_call_forward",
    "recurrence/resident_registers_backward",
    "recurrence/resident_registers_forward",
    "recurrence/resident_reread_backward",
    "recurrence/resident_reread_forward",
    "recurrence/resident_unrolled_backward",
    "recurrence/resident_unrolled_forward",
    "recurrence/single_step_fused_forward",
    "recurrence/single_step_products_forward",
    "recurrence/stepwise_backward",
    "recurrence/stepwise_forward",
    "recurrence/stepwise_unrolled_backward",
    "recurrence/stepwise_unrolled_forward",
    "shared/activations",
    "shared/advance",
    "shared/call",
    "shared/edges",
    "shared/floats",
    "shared/holds",
    "shared/kept_states",
    "shared/links",
    "shared/marks",
    "shared/restore",
    "shared/starts",
    "shared/step_backward",
    "shared/step_forward",
    "shared/team",
    "train/adam",
    "train/clip_norm",
    "train/clip_value",
    "train/counted_labels",
    "train/counted_rows",
    "train/cross_entropy",
    "train/embedding_backward",
    "train/embedding_forward",
    "train/embedding_links",
    "train/from_halves",
    "train/guard",
    "train/last_step",
    "train/loss_count",
    "train/loss_scale",
    "train/loss_total",
    "train/mean_squared_error",
    "train/norm_total",
    "train/readout_backward",
    "train/readout_forward",
    "train/sgd",
    "train/squared_sums",
    "train/to_halves",
    "train/total",
    "train/unscale_gradients",
}

/// What begins the line of a file that names the files it needs.
const NEEDS: &str = "// needs: ";

/// The text of the file of that name, without those it needs. The names come from this crate alone.
pub(crate) fn text(name: &str) -> &'static str {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no shader `{name}`")).1
}

/// Adds a file behind those it needs, each of them once.
pub(crate) fn add(files: &mut Vec<&'static str>, name: &'static str) {
    if files.contains(&name) {
        return;
    }
    for needed in needs(name) {
        add(files, needed);
    }
    files.push(name);
}

fn needs(name: &str) -> impl Iterator<Item = &'static str> {
    text(name).lines().filter_map(|line| line.strip_prefix(NEEDS)).flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_listed_once() {
        // What cargo says at run time: the test binary may have been carried to another machine.
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
        let shaders = Path::new(&root).join("shaders");
        let names = |folder: &Path| -> Vec<String> {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut found = BTreeSet::new();
        for folder in names(&shaders).into_iter().filter(|folder| folder != "cell") {
            let files = names(&shaders.join(&folder));
            found.extend(files.into_iter().map(|file| format!("{folder}/{}", file.strip_suffix(".wgsl").expect("only WGSL"))));
        }
        let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(listed.len(), FILES.len());
        assert_eq!(listed, found);
    }

    #[test]
    fn needed_files_come_first_and_once() {
        let mut files = Vec::new();
        add(&mut files, "recurrence/persistent_backward");
        let of_marks = ["shared/edges", "shared/holds", "shared/links", "shared/marks"];
        let expected = [&of_marks[..], &["shared/kept_states", "shared/step_backward", "shared/floats", "shared/team"]].concat();
        assert_eq!(files, [&expected[..], &["recurrence/persistent_backward"]].concat());
    }

    /// What stands in a file's line exists, and is needed by no other way round.
    #[test]
    fn needs_have_no_circles() {
        for (name, _) in FILES {
            let mut files = Vec::new();
            add(&mut files, name);
            for (at, file) in files.iter().enumerate() {
                assert!(needs(file).all(|needed| files[..at].contains(&needed)), "{name}: {file}");
            }
        }
    }
}
