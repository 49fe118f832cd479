// Files that the page hands out.

export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  // Some browsers read it only after the click has been handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// A name of a file out of anything: "NVIDIA H200 (Vulkan)" becomes "nvidia-h200-vulkan".
export function slug(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "device";
}

export function today() {
  return new Date().toISOString().slice(0, 10);
}
