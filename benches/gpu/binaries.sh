# Sourced by `pack`, `run` and `tests/run --gpu`, from the root of the repository: the release builds that run on a GPU.

# Suites worth running on a GPU, and the seconds that each may take there; the most telling first.
GPU_SUITES='gpu:110 persistent:60 half:60 stream:60 train:60 lib:60 embed:60 devices:60 faults:60 rnnoise:30 onnx:40 g2p:30 threads:40 soak:60 properties:60'

# SUITES='gpu stream' takes these alone.
choose_suites() {
  local name chosen=
  for name; do
    if [[ ! " $GPU_SUITES" =~ \ ($name:[0-9]+) ]]; then
      echo "no suite $name; there are $(sed -E 's/:[0-9]+//g' <<<"$GPU_SUITES")" >&2
      exit 2
    fi
    chosen+=" ${BASH_REMATCH[1]}"
  done
  GPU_SUITES=${chosen# }
}
if [[ -n ${SUITES:-} ]]; then choose_suites $SUITES; fi

# What `run` measures with; tests need none of it.
GPU_PROGRAMS='--bin tidegate --example char_lm --example agents --bench probe'

# build FOLDER: the command, examples, benchmarks and suites into it, stripped.
build() {
  local folder=$1 suites=() name
  for name in $GPU_SUITES; do
    name=${name%:*}
    if [[ $name == lib ]]; then suites+=(--lib); else suites+=(--test "$name"); fi
  done
  # What a report says of its commit.
  TIDEGATE_COMMIT=$(git rev-parse --short HEAD 2>/dev/null || true)
  export TIDEGATE_COMMIT
  mkdir -p "$folder"
  rm -f "$folder"/*
  # One profile and one set of features for all, so that nothing is built twice.
  {
    if [[ -n $GPU_PROGRAMS ]]; then cargo build --release --features cli $GPU_PROGRAMS --message-format=json-render-diagnostics; fi
    if [[ ${#suites[@]} -gt 0 ]]; then cargo test --release --features cli --no-run "${suites[@]}" --message-format=json-render-diagnostics; fi
  } | python3 -c '
import json, os, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    if not message.get("executable"):
        continue
    target = message["target"]
    kind = {"test": "test-", "lib": "test-", "bench": "bench-", "example": "example-", "bin": ""}[target["kind"][0]]
    name = "lib" if target["kind"][0] == "lib" else target["name"]
    shutil.copy2(message["executable"], os.path.join(sys.argv[1], kind + name))
' "$folder"
  strip "$folder"/*
}

# Sets BIN to a folder of them: what `pack` made, where it was carried along, else built by cargo.
find_binaries() {
  local pack=${PACK:-gpu-pack}
  if [[ -f $pack/binaries.tar.xz ]] && { [[ -n ${PACK:-} ]] || ! command -v cargo >/dev/null; }; then
    BIN=${TMPDIR:-/tmp}/tidegate-gpu
    # Nothing of an earlier pack.
    rm -rf "$BIN"
    mkdir -p "$BIN"
    tar -xJf "$pack/binaries.tar.xz" -C "$BIN"
    find_loader "$pack"
  elif command -v cargo >/dev/null; then
    BIN=${CARGO_TARGET_DIR:-target}/gpu
    build "$BIN" >&2
  else
    echo "no cargo here, and no $pack/binaries.tar.xz: run benches/gpu/pack where cargo is, and carry gpu-pack along" >&2
    return 1
  fi
  # Tests look for their fixtures here.
  export CARGO_MANIFEST_DIR=$PWD
}

# A bare machine may have a driver and no Vulkan loader, or keep the driver's manifest where no loader looks.
find_loader() {
  local pack=$1 manifest=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json file
  PATH=$PATH:/usr/sbin:/sbin
  if ! ldconfig -p | grep -q 'libvulkan\.so\.1'; then
    for file in "$pack"/*.deb; do dpkg -x "$file" /; done
    ldconfig
  fi
  if [[ -z ${VK_DRIVER_FILES:-} && -f $manifest ]] && ! compgen -G '/etc/vulkan/icd.d/nvidia*' >/dev/null && ! compgen -G '/usr/share/vulkan/icd.d/nvidia*' >/dev/null; then
    export VK_DRIVER_FILES=$manifest
  fi
}
