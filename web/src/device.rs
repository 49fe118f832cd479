//! `Device`: WebGPU, and what is made on it.

use js_sys::{Array, Promise, Reflect};
use tidegate::Context;
use tidegate::import::Model;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wgpu::{Features, PowerPreference};

use crate::Result;
use crate::arrays::bytes;
use crate::bench::Bench;
use crate::fields::Fields;
use crate::network::Network;
use crate::options::{self, NETWORK, SHAPE};
use crate::promise::promise;
use crate::tools::{Asked, run};
use crate::trainer::{self, Trainer};

/// A WebGPU device and its queue.
#[wasm_bindgen]
pub struct Device {
    ctx: Context,
    name: String,
}

#[wasm_bindgen]
impl Device {
    /// Opens a device of its own. Rejects where there is no WebGPU, or no adapter.
    #[wasm_bindgen(unchecked_return_type = "Promise<Device>")]
    pub fn open(#[wasm_bindgen(unchecked_optional_param_type = "DeviceOptions")] options: JsValue) -> Promise {
        promise(async move {
            let fields = Fields::new(options, &[&["powerPreference"]])?;
            let choices = [("high-performance", PowerPreference::HighPerformance), ("low-power", PowerPreference::LowPower)];
            let power_preference = fields.choice("powerPreference", &choices)?;
            let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
            let wanted = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
            let adapter = instance.request_adapter(&wanted).await.map_err(tidegate::Error::from)?;
            let ctx = Context::from_adapter(&adapter).await?;
            Ok(Self { name: name(&ctx).await, ctx })
        })
    }

    /// What the browser tells of the adapter; browsers hide much of it.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// `"software"` where it runs on the CPU.
    #[wasm_bindgen(getter, js_name = type, unchecked_return_type = "\"software\" | \"gpu\"")]
    pub fn device_type(&self) -> String {
        if self.ctx.is_software() { "software" } else { "gpu" }.into()
    }

    /// Optional features of WebGPU that are in use.
    #[wasm_bindgen(getter, unchecked_return_type = "string[]")]
    pub fn features(&self) -> Array {
        let features = self.ctx.device().features();
        let used = [("shader-f16", Features::SHADER_F16), ("timestamp-query", Features::TIMESTAMP_QUERY)];
        used.into_iter().filter(|(_, feature)| features.contains(*feature)).map(|(name, _)| JsValue::from(name)).collect()
    }

    /// Whether the browser took the device away. All calls reject then; open another and load the weights again.
    #[wasm_bindgen(getter, js_name = isLost)]
    pub fn is_lost(&self) -> bool {
        self.ctx.is_lost()
    }

    /// Any cell by its name, with random weights.
    pub fn network(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Cell")] cell: &str,
        #[wasm_bindgen(unchecked_param_type = "NetworkOptions")] options: JsValue,
    ) -> Result<Network> {
        self.make(cell, &Fields::new(options, &[NETWORK])?)
    }

    pub fn lstm(&self, #[wasm_bindgen(unchecked_param_type = "NetworkOptions")] options: JsValue) -> Result<Network> {
        self.network("lstm", options)
    }

    /// PyTorch's and Keras' GRU; with `resetBefore` that of the paper, where the reset gate comes before the product.
    pub fn gru(
        &self,
        #[wasm_bindgen(unchecked_param_type = "NetworkOptions & { resetBefore?: boolean }")] options: JsValue,
    ) -> Result<Network> {
        let fields = Fields::new(options, &[NETWORK, &["resetBefore"]])?;
        self.make(if fields.flag("resetBefore")?.unwrap_or_default() { "gru_reset_before" } else { "gru" }, &fields)
    }

    pub fn elman(
        &self,
        #[wasm_bindgen(unchecked_param_type = "NetworkOptions & { activation?: \"tanh\" | \"relu\" | \"linear\" }")]
        options: JsValue,
    ) -> Result<Network> {
        let fields = Fields::new(options, &[NETWORK, &["activation"]])?;
        let cells = [("tanh", "rnn_tanh"), ("relu", "rnn_relu"), ("linear", "rnn_linear")];
        self.make(fields.choice("activation", &cells)?, &fields)
    }

    fn make(&self, cell: &str, fields: &Fields) -> Result<Network> {
        Network::random(&self.ctx, &options::Network::new(cell, fields)?)
    }

    /// The network of a safetensors file by PyTorch or Keras; cell and sizes follow from names and shapes.
    pub fn load(
        &self,
        #[wasm_bindgen(unchecked_param_type = "ArrayBuffer | Uint8Array")] file: JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "LoadOptions")] options: JsValue,
    ) -> Result<Network> {
        let fields = Fields::new(options, &[&["cell", "prefix", "batchFirst", "dtype", "strategy", "tuning"]])?;
        let (file, cell) = (bytes(file)?, fields.text("cell")?);
        let mut model = match fields.text("prefix")? {
            Some(prefix) => Model::from_safetensors_at(&file, &prefix, cell.as_deref())?,
            None => Model::from_weights(&file, cell.as_deref())?,
        };
        model.config.batch_first = fields.flag("batchFirst")?.unwrap_or_default();
        let (dtype, strategy, tuning) = (options::dtype(&fields)?, options::strategy(&fields)?, options::tuning(&fields)?);
        let Model { cell, config, params, .. } = model;
        Network::new(options::Network { cell, config, dtype, strategy, tuning, seed: 0 }.on(&self.ctx)?, params)
    }

    /// Trains a whole model: an embedding if there is a vocabulary, a network, a linear head, a loss.
    pub fn trainer(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Cell")] cell: &str,
        #[wasm_bindgen(unchecked_param_type = "TrainerOptions")] options: JsValue,
    ) -> Result<Trainer> {
        self.make_trainer(cell, options, None)
    }

    fn make_trainer(&self, cell: &str, options: JsValue, checkpoint: Option<&[u8]>) -> Result<Trainer> {
        Trainer::new(&self.ctx, cell, &Fields::new(options, &[NETWORK, SHAPE, trainer::OPTIONS])?, checkpoint)
    }

    /// A trainer of the same options that goes on from a checkpoint.
    pub fn restore(
        &self,
        #[wasm_bindgen(unchecked_param_type = "ArrayBuffer | Uint8Array")] checkpoint: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Cell")] cell: &str,
        #[wasm_bindgen(unchecked_param_type = "TrainerOptions")] options: JsValue,
    ) -> Result<Trainer> {
        self.make_trainer(cell, options, Some(&bytes(checkpoint)?))
    }

    /// Runs a random network forward and backward here, and checks every tensor against the float64 reference. Rejects if one is off.
    #[wasm_bindgen(unchecked_return_type = "Promise<{ maxRelErr: number }>")]
    pub fn check(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Cell")] cell: &str,
        #[wasm_bindgen(unchecked_param_type = "NetworkOptions & Shape & { ragged?: boolean; resets?: boolean }")]
        options: JsValue,
    ) -> Promise {
        promise(run(Asked::Check { ctx: self.ctx.clone(), cell: cell.into(), options }))
    }

    /// A suite of workloads, to be verified and timed here one by one.
    pub fn bench(
        &self,
        #[wasm_bindgen(unchecked_param_type = "\"quick\" | \"latency\"")] suite: &str,
        #[wasm_bindgen(unchecked_optional_param_type = "BenchOptions")] options: JsValue,
    ) -> Result<Bench> {
        Bench::new(&self.ctx, &self.name, suite, &Fields::new(options, &[&["strategy", "dtype"]])?)
    }

    /// Gives the device back. All later calls reject.
    pub fn destroy(&self) {
        self.ctx.device().destroy();
    }
}

/// wgpu has the adapter's description alone, which most browsers leave empty.
async fn name(ctx: &Context) -> String {
    let described = ctx.adapter_info().name.clone();
    if !described.is_empty() {
        return described;
    }
    let fields = ["vendor", "architecture", "device"].map(String::from);
    let info = async {
        let gpu = Reflect::get(&Reflect::get(&js_sys::global(), &"navigator".into())?, &"gpu".into())?;
        let request = Reflect::get(&gpu, &"requestAdapter".into())?.dyn_into::<js_sys::Function>()?;
        let adapter = JsFuture::from(request.call0(&gpu)?.dyn_into::<Promise>()?).await?;
        let info = Reflect::get(&adapter, &"info".into())?;
        let text = |name: &String| Reflect::get(&info, &name.into()).ok()?.as_string().filter(|text| !text.is_empty());
        Ok::<_, JsValue>(fields.iter().filter_map(text).collect::<Vec<_>>().join(" "))
    };
    info.await.ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown adapter".into())
}
