//! `Network.tune`.

use tidegate::Mode;
use wasm_bindgen::JsValue;

use crate::Result;
use crate::fields::Fields;
use crate::network::Shared;
use crate::options::{self, SHAPE};

pub async fn tune(network: &Shared, options: JsValue) -> Result<JsValue> {
    let fields = Fields::new(options, &[SHAPE, &["training"]])?;
    let mode = if fields.flag("training")?.unwrap_or_default() { Mode::Training } else { Mode::Inference };
    let found = network.rnn().tune(options::shape(&fields)?, mode).await?;
    // Another tuning may have ended meanwhile.
    let rnn = network.rnn();
    let mut all = rnn.tuning().clone();
    all.merge(found)?;
    let text = serde_json::to_string(&all)?;
    network.replace(rnn.with_tuning(&all)?);
    Ok(text.into())
}
