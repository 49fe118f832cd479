// Safetensors read and written without the package, to hold it to.

const READ = {
  F64: [8, (view, at) => view.getFloat64(at, true)],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  I32: [4, (view, at) => view.getInt32(at, true)],
  U32: [4, (view, at) => view.getUint32(at, true)],
};

/// `{ metadata, tensors: { name: { shape, data } } }`.
export function read(file) {
  const bytes = new Uint8Array(file);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const tensors = Object.fromEntries(Object.entries(entries).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
    const [size, get] = READ[dtype];
    const view = new DataView(bytes.buffer, 8 + length + start, end - start);
    return [name, { shape, data: Array.from({ length: (end - start) / size }, (_, i) => get(view, i * size)) }];
  }));
  return { metadata, tensors };
}

/// A file of f32.
export function write(tensors) {
  let end = 0;
  const header = Object.fromEntries(Object.entries(tensors).map(([name, { shape, data }]) => {
    const start = end;
    end += 4 * data.length;
    return [name, { dtype: "F32", shape, data_offsets: [start, end] }];
  }));
  const json = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  const values = Object.values(tensors).flatMap(({ data }) => [...data]);
  file.set(new Uint8Array(Float32Array.from(values).buffer), 8 + json.length);
  return file;
}
