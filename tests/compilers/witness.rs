//! A driver of other hardware in a process of its own: it may hang, and loads libraries that shall not be here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How to have a driver compile.
#[derive(Debug, Clone)]
pub struct Witness {
    pub name: String,
    /// Whether it is asked for its opinion alone.
    pub is_aside: bool,
    environment: Vec<(String, String)>,
    /// Mesa's driver where it must be named by a manifest.
    library: Option<PathBuf>,
}

/// What it says of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// On a processor of its own.
    pub seconds: f64,
    pub registers: u64,
    /// Lanes of a subgroup that the compiler chose, 0 if it does not tell.
    pub width: u64,
    pub spilled: u64,
    pub scratch: u64,
    /// Workgroup memory that it needs (0 if it does not tell) and that there is; threads that there may be.
    pub memory: u64,
    pub most_memory: u64,
    pub threads: u64,
}

impl Witness {
    /// An AMD GPU by its name in Mesa.
    pub fn amd(model: &str) -> Self {
        let manifests = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
        let found = manifests.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
        let radeon = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("radeon_icd"));
        let manifest = found.map(|entry| entry.path()).find(radeon).expect("Mesa's RADV, which tests/run installs");
        let mut environment = vec![("RADV_FORCE_FAMILY".into(), model.into())];
        environment.push(("VK_DRIVER_FILES".into(), manifest.display().to_string()));
        Self { name: format!("amd {model}"), is_aside: false, environment, library: None }
    }

    /// The same with subgroups of 32, where Mesa's default is 64. It is printed, not judged.
    pub fn amd_wave32(model: &str) -> Self {
        let mut witness = Self { name: format!("amd {model} wave32"), is_aside: true, ..Self::amd(model) };
        witness.environment.push(("RADV_PERFTEST".into(), "cswave32".into()));
        witness
    }

    /// Another vendor's, where its driver is found; says so aloud where it is not.
    pub fn from_folder(vendor: &str, model: &str) -> Option<Self> {
        let folder = std::env::var_os("TIDEGATE_COMPILERS").map_or_else(|| PathBuf::from("../shared/compilers"), PathBuf::from);
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        let (library, device) = (folder.join(format!("{vendor}.so")), folder.join(format!("{vendor}_device.so")));
        if !library.exists() || !device.exists() {
            println!(
                "LEFT OUT: no {} (TIDEGATE_COMPILERS names its folder): {vendor} {model} compiles nothing",
                library.display()
            );
            return None;
        }
        let mut environment = vec![("LD_PRELOAD".to_string(), device.display().to_string())];
        environment.push(match vendor {
            "intel" => ("INTEL_STUB_GPU_PLATFORM".into(), model.into()),
            "adreno" => ("FD_GPU_ID".into(), model.into()),
            _ => ("AGX_MESA_DEBUG".into(), "shaderdb".into()),
        });
        Some(Self { name: format!("{vendor} {model}"), is_aside: false, environment, library: Some(library) })
    }

    /// Compiles texts by name. Those that took far too long are not among the answers.
    pub fn compile(&self, texts: &BTreeMap<String, String>, most_seconds: f64) -> BTreeMap<String, Verdict> {
        // Tests of one process run side by side.
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", self.name.replace(' ', "-"), std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in texts {
            fs::write(folder.join(format!("{name}.wgsl")), text).expect("a file");
        }
        let mut verdicts = BTreeMap::new();
        // A machine that others share may take some times as long.
        let patience = Duration::from_secs_f64(8.0 * most_seconds);
        while !self.run(&folder, patience, &mut verdicts) {}
        let _ = fs::remove_dir_all(&folder);
        verdicts
    }

    /// One process; whether it came to its end.
    fn run(&self, folder: &Path, patience: Duration, verdicts: &mut BTreeMap<String, Verdict>) -> bool {
        let mut child = self.start(folder);
        let (sender, receiver) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let (mut limits, mut apple) = ([0, 0], None);
        let (mut ended, mut opened) = (false, false);
        while let Ok(line) = receiver.recv_timeout(patience) {
            if let Some(rest) = line.strip_prefix("device: ") {
                opened = true;
                let mut words = rest.split_whitespace();
                limits = [0; 2].map(|_: u64| words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
            } else if line.contains("spills:fills") {
                apple = Some(line);
            } else if line == "end" {
                ended = true;
            } else if let Some((name, told)) = line.split_once(": ") {
                match told.split_once("failed: ") {
                    Some(("", why)) => panic!("{}: {name}: {why}", self.name),
                    _ => verdicts.extend(verdict(told, limits, apple.take()).map(|verdict| (name.to_string(), verdict))),
                }
            }
            if ended {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        assert!(opened, "{} cannot be opened", self.name);
        ended
    }

    fn start(&self, folder: &Path) -> Child {
        let test = std::env::current_exe().expect("this test");
        // One stream for both, so that what a driver says of a pipeline comes before its statistics.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 2>&1", "sh", "env"]);
        command.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        if let Some(library) = &self.library {
            let manifest = folder.join("icd.json");
            let json = serde_json::json!({
                "ICD": { "api_version": "1.3.0", "library_path": library }, "file_format_version": "1.0.0"
            });
            fs::write(&manifest, json.to_string()).expect("a manifest");
            command.arg(format!("VK_DRIVER_FILES={}", manifest.display()));
        }
        command.arg(test).args(["--ignored", "--exact", "--nocapture", "compile"]);
        command.env("TIDEGATE_COMPILE", folder).env("MESA_SHADER_CACHE_DISABLE", "true");
        command.stdout(Stdio::piped()).spawn().expect("a process")
    }
}

/// `seconds; name value; ..`, and what Apple's driver prints besides.
fn verdict(told: &str, [most_memory, most_threads]: [u64; 2], apple: Option<String>) -> Option<Verdict> {
    let mut parts = told.split("; ");
    let seconds = parts.next()?.parse().ok()?;
    let values: BTreeMap<&str, u64> =
        parts.filter_map(|part| part.rsplit_once(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
    let of = |names: &[&str]| names.iter().filter_map(|name| values.get(name)).sum::<u64>();
    let mut verdict = Verdict {
        seconds,
        registers: of(&["VGPRs", "Max live registers", "Number of GPRs", "Registers used"]),
        width: of(&["Subgroup size"]),
        // RADV keeps spilled SGPRs in lanes of vector registers, not in memory.
        spilled: of(&["Spilled VGPRs", "Spill Count", "STP Count", "LDP Count"]),
        scratch: of(&["Scratch size", "Scratch Memory Size"]),
        memory: of(&["LDS size", "Workgroup Memory Size"]),
        most_memory,
        threads: most_threads,
    };
    if let Some(line) = apple {
        let number = |unit: &str| {
            let part = line.split(", ").find(|part| part.ends_with(unit))?;
            part.trim_end_matches(unit).trim().split(':').map(|n| n.trim().parse::<u64>().ok()).sum::<Option<u64>>()
        };
        verdict.registers = number("regs").unwrap_or(0);
        verdict.threads = number("threads").unwrap_or(most_threads);
        verdict.scratch = number("scratch")?;
        verdict.spilled = number("spills:fills")?;
    }
    Some(verdict)
}

/// `spirv-val`, or what `TIDEGATE_SPIRV_VAL` names in its place.
#[derive(Debug)]
pub struct Validator {
    program: OsString,
    year: u32,
}

impl Validator {
    pub fn any() -> Option<Self> {
        let program = std::env::var_os("TIDEGATE_SPIRV_VAL").unwrap_or("spirv-val".into());
        let output = Command::new(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let year = text.split_once("SPIRV-Tools v").and_then(|(_, rest)| rest.get(..4)?.parse().ok());
        Some(Self { program, year: year.unwrap_or(0) })
    }

    /// One that knows cooperative matrices.
    pub fn of_matrices() -> Option<Self> {
        Self::any().filter(|validator| validator.year >= 2024)
    }

    pub fn check(&self, name: &str, spirv: &[u32], version: (u8, u8)) {
        let target = if version >= (1, 6) { "vulkan1.3" } else { "vulkan1.1" };
        let mut child = Command::new(&self.program)
            .args(["--target-env", target, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spirv-val");
        let bytes: Vec<u8> = spirv.iter().flat_map(|word| word.to_le_bytes()).collect();
        child.stdin.take().expect("its input").write_all(&bytes).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What naga 30 should have written, for all else to be looked at: types of variables and workgroup memory without a layout, which only
/// buffers have in Vulkan (VUID-StandaloneSpirv-None-10684, which validators know since 2025), and the capability for atomics of the
/// whole device in Vulkan's memory model, a feature that wgpu opens such devices with.
pub fn without_known_faults(spirv: &[u32]) -> Vec<u32> {
    const CAPABILITY: u32 = 2 << 16 | 17;
    const VULKAN_MEMORY_MODEL: u32 = 5345;
    const OF_DEVICE_SCOPE: u32 = 5346;
    const ARRAY: u32 = 28;
    const RUNTIME_ARRAY: u32 = 29;
    const STRUCT: u32 = 30;
    const POINTER: u32 = 32;
    const UNIFORM: u32 = 2;
    const PUSH_CONSTANT: u32 = 9;
    const STORAGE_BUFFER: u32 = 12;
    const DECORATE: u32 = 71;
    const DECORATE_MEMBER: u32 = 72;
    const ARRAY_STRIDE: u32 = 6;
    const OFFSET: u32 = 35;
    let (header, mut rest) = spirv.split_at(5);
    let mut instructions = Vec::new();
    while let Some(first) = rest.first() {
        let (instruction, after) = rest.split_at((first >> 16) as usize);
        instructions.push(instruction);
        rest = after;
    }
    let op = |it: &[u32]| it[0] & 0xffff;
    let parts_of = |ty: u32| {
        let made = instructions.iter().find(|it| matches!(op(it), ARRAY | RUNTIME_ARRAY | STRUCT) && it[1] == ty);
        made.map_or(&[][..], |it| if op(it) == STRUCT { &it[2..] } else { &it[2..3] })
    };
    // Whatever a buffer holds keeps its layout.
    let mut laid_out: Vec<u32> = Vec::new();
    let buffers = [UNIFORM, PUSH_CONSTANT, STORAGE_BUFFER];
    let mut left: Vec<u32> =
        instructions.iter().filter(|it| op(it) == POINTER && buffers.contains(&it[2])).map(|it| it[3]).collect();
    while let Some(ty) = left.pop() {
        if !laid_out.contains(&ty) {
            laid_out.push(ty);
            left.extend(parts_of(ty));
        }
    }
    let capability = [CAPABILITY, OF_DEVICE_SCOPE];
    let in_model = instructions.contains(&&[CAPABILITY, VULKAN_MEMORY_MODEL][..]);
    let added = in_model.then_some(&capability[..]);
    let is_layout = |it: &[u32]| op(it) == DECORATE && it[2] == ARRAY_STRIDE || op(it) == DECORATE_MEMBER && it[3] == OFFSET;
    let stays = |it: &&[u32]| !is_layout(it) || laid_out.contains(&it[1]);
    [header].into_iter().chain(added).chain(instructions.iter().copied().filter(stays)).flatten().copied().collect()
}

#[test]
fn what_drivers_say_is_understood() {
    let amd =
        verdict("0.96; VGPRs 256; Spilled SGPRs 0; Spilled VGPRs 3; LDS size 5120; Scratch size 16; Hash 7", [65536, 1024], None);
    let amd = amd.unwrap();
    assert_eq!((amd.seconds, amd.registers, amd.spilled, amd.scratch, amd.memory), (0.96, 256, 3, 16, 5120));
    let line = "SHADER-DB:  - MESA_SHADER_COMPUTE shader: 3343 inst, 258 ic, 111 regs, 512 uniforms, 8 scratch, 896 threads, 4 loops, 2:3 spills:fills";
    let apple = verdict("0.19; Code Size 23368; Number of GPRs 112", [32768, 1024], Some(line.into())).unwrap();
    assert_eq!((apple.registers, apple.spilled, apple.scratch, apple.threads), (111, 5, 8, 896));
}
