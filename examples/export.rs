//! Writes the weights of a fresh network as a PyTorch state_dict on safetensors:
//!
//!     cargo run --example export -- lstm 3 5 2 bi bias encoder.lstm. 7 weights.safetensors
//!
//! cell, input_size, hidden_size, num_layers, `bi` or `uni`, `bias` or `nobias`, the prefix of the names (may be empty), seed,
//! file; without arguments those above, into the folder for temporary files. `tests/fixtures/pytorch/export/generate.py` loads such files into PyTorch.

use std::error::Error;

use tidegate::cell::by_name;
use tidegate::{ParamLayout, Params, RnnConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        let path = std::env::temp_dir().join("tidegate-export.safetensors").display().to_string();
        args = ["lstm", "3", "5", "2", "bi", "bias", "encoder.lstm.", "7", &path].map(String::from).into();
    }
    let [cell, input_size, hidden_size, num_layers, directions, bias, prefix, seed, path] = &*args else {
        return Err(format!("expected 9 arguments, got {}; the example's head comment lists them", args.len()).into());
    };
    let number = |text: &String| text.parse::<usize>().map_err(|error| format!("`{text}`: {error}"));
    let config = RnnConfig::new(number(input_size)?, number(hidden_size)?)
        .with_num_layers(number(num_layers)?)
        .with_bidirectional(choice(directions, ["uni", "bi"])?)
        .with_bias(choice(bias, ["nobias", "bias"])?);
    let layout = ParamLayout::new(&by_name(cell)?, &config)?;
    let params = Params::uniform(&layout, number(seed)? as u64);
    std::fs::write(path, params.to_safetensors(prefix)?).map_err(|error| format!("{path}: {error}"))?;
    println!("{path}: {} parameters", layout.len());
    Ok(())
}

/// Whether the text is the second of two words.
fn choice(text: &str, words: [&str; 2]) -> Result<bool, String> {
    let at = words.iter().position(|word| *word == text);
    at.map(|at| at == 1).ok_or_else(|| format!("`{text}`: expected `{}` or `{}`", words[0], words[1]))
}
