//! Words to phonemes with the trained network of the Python package g2p-en (Apache-2.0): all words of a text are one ragged batch
//! for the encoder, then the decoder says a phoneme of every word a step, from a state that stays on the GPU.
//!
//! `cargo run --example g2p -- "Any text"`
//!
//! The weights are those of the fixture `tests/fixtures/g2p`, rounded to 16 bits. The package's own:
//!
//! ```sh
//! pip download --no-deps g2p-en==2.1.0
//! unzip g2p_en-2.1.0-py3-none-any.whl g2p_en/checkpoint20.npz
//! cargo run --example g2p -- --weights g2p_en/checkpoint20.npz "Any text"
//! ```
//!
//! The package itself looks words up in a dictionary and asks the network only for those that are not there; here it is asked for
//! all.

mod model;
mod weights;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use model::{G2p, words};
use tidegate::{Context, Strategy};
use weights::Weights;

const TEXT: &str = "Vulkan, Metal and wgpu: a lavapipe frobnicates the blorptangle of uncharacteristically recurrent networks.";
const USAGE: &str = "usage: g2p [--weights checkpoint20.npz] [TEXT ...]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let mut file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/g2p/model.safetensors"));
    if args.next_if(|arg| arg == "--weights").is_some() {
        file = args.next().ok_or(USAGE)?.into();
    }
    let mut text = args.collect::<Vec<_>>().join(" ");
    if text.starts_with('-') {
        return Err(USAGE.into());
    }
    if text.is_empty() {
        text = TEXT.into();
    }
    let words = words(&text);
    if words.is_empty() {
        return Err(format!("no words in `{text}`").into());
    }

    let named = |e: &dyn Error| format!("{}: {e}", file.display());
    let weights = Weights::read(&fs::read(&file).map_err(|e| named(&e))?).map_err(|e| named(&*e))?;
    let ctx = pollster::block_on(Context::request())?;
    let g2p = G2p::new(&ctx, &weights, Strategy::Auto)?;
    let phonemes = g2p.decode(&g2p.encode(&words)?)?;

    let width = words.iter().map(|word| word.chars().count()).max().unwrap_or(0);
    for (word, phonemes) in words.iter().zip(phonemes) {
        println!("{word:width$}  {}", phonemes.join(" "));
    }
    Ok(())
}
