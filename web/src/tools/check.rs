//! `Device.check`.

use tidegate::Context;
use tidegate::check::Case;
use wasm_bindgen::JsValue;

use crate::Result;
use crate::arrays::object;
use crate::fields::Fields;
use crate::options::{self, NETWORK, SHAPE};

pub async fn check(ctx: &Context, cell: &str, options: JsValue) -> Result<JsValue> {
    let fields = Fields::new(options, &[NETWORK, SHAPE, &["ragged", "resets"]])?;
    let options::Network { cell, config, dtype, strategy, seed, .. } = options::Network::new(cell, &fields)?;
    let shape = options::shape(&fields)?;
    let mut case = Case { dtype, seed, ..Case::new(config, shape.seq_len, shape.batch_size) };
    case.ragged = fields.flag("ragged")?.unwrap_or(true);
    case.resets = fields.flag("resets")?.unwrap_or(true);
    let outcome = case.check_gpu(ctx, &cell, strategy).await?;
    Ok(object([("maxRelErr", outcome.max_rel_err.into())]).into())
}
