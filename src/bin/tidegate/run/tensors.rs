//! The tensors of `run`: INPUT and OUTPUT, under the names and in the shapes of its contract.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::import::{Model, open_safetensors, values_of};
use tidegate::{Error, Gradients, Output, SeqShape, Sequence};

use crate::Result;

/// Host data of the one call that the command makes.
#[derive(Debug)]
pub struct Call {
    pub shape: SeqShape,
    pub input: Vec<f32>,
    pub initial_state: Option<Vec<f32>>,
    pub lengths: Option<Vec<u32>>,
    /// `[T, B]`, whatever the order of the input.
    pub reset: Option<Vec<u32>>,
    /// `[T, B]`, whatever the order of the input: not 0 where Keras' mask is.
    pub hold: Option<Vec<u32>>,
    /// Present if backward is to run.
    pub d_output: Option<Vec<f32>>,
    pub d_final_state: Option<Vec<f32>>,
}

/// Every tensor that INPUT may hold, whether only backward takes it, and how many states the cell must have for it.
const INPUTS: [(&str, bool, usize); 9] = [
    ("input", false, 1),
    ("h0", false, 1),
    ("c0", false, 2),
    ("lengths", false, 1),
    ("reset", false, 1),
    ("mask", false, 1),
    ("d_output", true, 1),
    ("d_hn", true, 1),
    ("d_cn", true, 2),
];
/// What each state is called in files: initial and final.
const STATES: [(&str, &str); 2] = [("h0", "hn"), ("c0", "cn")];

/// Whether a file holds `input` and no tensor that an INPUT may not hold.
pub fn is_input(bytes: &[u8]) -> bool {
    let is_known = |name: &str| INPUTS.iter().any(|(known, ..)| *known == name);
    open_safetensors(bytes).is_ok_and(|file| file.names().contains(&"input") && file.names().into_iter().all(is_known))
}

impl Call {
    pub fn read(bytes: &[u8], model: &Model, backward: bool) -> Result<Self> {
        let file = InputFile(open_safetensors(bytes)?);
        file.check_names(model, backward)?;
        let input_size = model.config.input_size;
        let &[first, second, features] = &*file.shape("input")? else {
            let order = if model.config.batch_first { "[B,T,I]" } else { "[T,B,I]" };
            return Err(format!("`input`: expected 3 dimensions {order}, got shape {:?}", file.shape("input")?).into());
        };
        let (seq_len, batch_size) = if model.config.batch_first { (second, first) } else { (first, second) };
        let shape = SeqShape { seq_len, batch_size };
        if features != input_size {
            let (expected, actual) = (vec![first, second, input_size], vec![first, second, features]);
            return Err(Error::Shape { name: "input".into(), expected, actual }.into());
        }
        shape.validate()?;

        let required = |name| file.values(name, &[first, second, features])?.ok_or_else(|| missing(name));
        let input = required("input")?;
        let initial = STATES.map(|(initial, _)| initial.to_string());
        let d_final = STATES.map(|(_, last)| format!("d_{last}"));
        let d_output = match file.values("d_output", &[first, second, model.config.output_size()])? {
            None if backward => return Err(format!("{}: --backward needs it", missing("d_output")).into()),
            d_output => d_output,
        };
        Ok(Self {
            shape,
            input,
            initial_state: file.states(&initial, model, batch_size)?,
            lengths: file.lengths(shape)?,
            reset: file.reset(shape)?,
            hold: file.hold(shape, model.config.batch_first)?,
            d_output,
            d_final_state: file.states(&d_final, model, batch_size)?,
        })
    }

    /// What forward is to run on.
    pub fn sequence(&self) -> Sequence<'_> {
        let seq = Sequence::new(self.shape, &self.input);
        Sequence {
            initial_state: self.initial_state.as_deref(),
            lengths: self.lengths.as_deref(),
            reset: self.reset.as_deref(),
            hold: self.hold.as_deref(),
            ..seq
        }
    }
}

fn missing(name: &str) -> Error {
    Error::MissingTensor { name: name.into() }
}

/// [L·D, B, H] of a state by its index; a projected h has P values a row.
fn state_shape(model: &Model, batch_size: usize, state: usize) -> [usize; 3] {
    let config = &model.config;
    let size = if state == 0 { config.h_size() } else { config.hidden_size };
    [config.num_layers * config.num_directions(), batch_size, size]
}

struct InputFile<'data>(SafeTensors<'data>);

impl InputFile<'_> {
    /// Refuses every tensor that this call has no use for.
    fn check_names(&self, model: &Model, backward: bool) -> Result<()> {
        let mut names = self.0.names();
        names.sort_unstable();
        for name in names {
            let Some(&(_, of_backward, states)) = INPUTS.iter().find(|(known, ..)| *known == name) else {
                let known = INPUTS.map(|(known, ..)| known).join(", ");
                return Err(format!("unused tensor `{name}`; an input is one of {known}").into());
            };
            if of_backward && !backward {
                return Err(format!("unused tensor `{name}`: only --backward takes it").into());
            }
            if states > model.cell.spec().states.len() {
                return Err(format!("unused tensor `{name}`: cell `{}` has no such state", model.cell.name()).into());
            }
        }
        Ok(())
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        Ok(self.0.tensor(name).map_err(|_| missing(name))?.shape().to_vec())
    }

    /// The tensor if the file has it, of that shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Option<TensorView<'_>>, Error> {
        let Ok(tensor) = self.0.tensor(name) else { return Ok(None) };
        if tensor.shape() != shape {
            return Err(Error::Shape { name: name.into(), expected: shape.to_vec(), actual: tensor.shape().to_vec() });
        }
        Ok(Some(tensor))
    }

    /// F16 and BF16 are widened.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, Error> {
        self.tensor(name, shape)?.map(|tensor| values_of(name, &tensor)).transpose()
    }

    /// The cell's states one behind the other, zeros for one that is not given; nothing if none is.
    fn states(&self, names: &[String], model: &Model, batch_size: usize) -> Result<Option<Vec<f32>>, Error> {
        let shape = |state| state_shape(model, batch_size, state);
        let names = names[..model.cell.spec().states.len()].iter().enumerate();
        let given = names.map(|(state, name)| self.values(name, &shape(state))).collect::<Result<Vec<_>, _>>()?;
        if given.iter().all(Option::is_none) {
            return Ok(None);
        }
        let zeros = |state| vec![0.0; shape(state).iter().product()];
        Ok(Some(given.into_iter().enumerate().flat_map(|(at, state)| state.unwrap_or_else(|| zeros(at))).collect()))
    }

    fn lengths(&self, shape: SeqShape) -> Result<Option<Vec<u32>>> {
        let Some(tensor) = self.tensor("lengths", &[shape.batch_size])? else { return Ok(None) };
        let lengths = integers("lengths", &tensor)?.into_iter().enumerate();
        let checked = lengths.map(|(b, length)| match u32::try_from(length) {
            Ok(length) if length as usize <= shape.seq_len => Ok(length),
            _ => Err(format!("`lengths[{b}]`: {length} is outside 0..={}", shape.seq_len).into()),
        });
        Ok(Some(checked.collect::<Result<_>>()?))
    }

    fn reset(&self, shape: SeqShape) -> Result<Option<Vec<u32>>> {
        let Some(tensor) = self.tensor("reset", &[shape.seq_len, shape.batch_size])? else { return Ok(None) };
        Ok(Some(flags("reset", &tensor)?))
    }

    /// From Keras' mask, `[B, T]` if batch-first, which is not 0 where a step counts.
    fn hold(&self, shape: SeqShape, batch_first: bool) -> Result<Option<Vec<u32>>> {
        let SeqShape { seq_len, batch_size } = shape;
        let order = if batch_first { [batch_size, seq_len] } else { [seq_len, batch_size] };
        let Some(tensor) = self.tensor("mask", &order)? else { return Ok(None) };
        let counts = flags("mask", &tensor)?;
        let row = |t, b| if batch_first { b * seq_len + t } else { t * batch_size + b };
        let steps = (0..seq_len).flat_map(|t| (0..batch_size).map(move |b| row(t, b)));
        Ok(Some(steps.map(|row| u32::from(counts[row] == 0)).collect()))
    }
}

/// 1 where an element of BOOL or an integer type is not 0.
fn flags(name: &str, tensor: &TensorView<'_>) -> Result<Vec<u32>, Error> {
    let size = match tensor.dtype() {
        Dtype::BOOL | Dtype::U8 | Dtype::I8 => 1,
        Dtype::U16 | Dtype::I16 => 2,
        Dtype::U32 | Dtype::I32 => 4,
        Dtype::U64 | Dtype::I64 => 8,
        other => return Err(Error::Dtype { name: name.into(), expected: "BOOL or integers", actual: other.to_string() }),
    };
    Ok(tensor.data().chunks_exact(size).map(|bytes| bytes.iter().any(|&byte| byte != 0).into()).collect())
}

/// Values of an I32 or I64 tensor.
pub fn integers(name: &str, tensor: &TensorView<'_>) -> Result<Vec<i64>, Error> {
    match tensor.dtype() {
        Dtype::I32 => Ok(tensor.data().as_chunks().0.iter().map(|&word| i32::from_le_bytes(word).into()).collect()),
        Dtype::I64 => Ok(tensor.data().as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect()),
        other => Err(Error::Dtype { name: name.into(), expected: "I32 or I64", actual: other.to_string() }),
    }
}

/// Output, and gradients if asked for.
pub type Results = (Output, Option<Gradients>);

/// The bytes of OUTPUT: the tensors of the contract, and no others.
pub fn serialize(model: &Model, shape: SeqShape, (output, gradients): &Results) -> Result<Vec<u8>> {
    let config = &model.config;
    let (first, second) = if config.batch_first { (shape.batch_size, shape.seq_len) } else { (shape.seq_len, shape.batch_size) };
    let mut tensors = vec![("output".to_string(), vec![first, second, config.output_size()], &*output.output)];
    tensors.extend(split_states(model, shape, &output.final_state, STATES.map(|(_, last)| last.to_string())));
    if let Some(d) = gradients {
        tensors.push(("d_input".into(), vec![first, second, config.input_size], &d.d_input));
        tensors.extend(split_states(model, shape, &d.d_initial_state, STATES.map(|(initial, _)| format!("d_{initial}"))));
        let params = model.params.layout().iter();
        tensors.extend(params.map(|spec| (format!("d_{}", spec.name), spec.shape.clone(), &d.d_params[spec.range.clone()])));
    }
    to_safetensors(&tensors)
}

/// The bytes of a file of F32 tensors.
pub fn to_safetensors(tensors: &[(String, Vec<usize>, &[f32])]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views.map(|((name, shape, _), bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    Ok(safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}

/// Each of the cell's states out of one block, under its name.
fn split_states<'a>(
    model: &Model,
    shape: SeqShape,
    block: &'a [f32],
    names: [String; STATES.len()],
) -> Vec<(String, Vec<usize>, &'a [f32])> {
    let mut rest = block;
    let states = names.into_iter().take(model.cell.spec().states.len()).enumerate();
    let split = states.map(|(state, name)| {
        let shape = state_shape(model, shape.batch_size, state);
        let (values, behind) = rest.split_at(shape.iter().product());
        rest = behind;
        (name, shape.to_vec(), values)
    });
    split.collect()
}
