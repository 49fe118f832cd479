//! What goes to the queue and comes back: writes, submits, readbacks. Errors never reach the app's handler.

use std::future::Future;
#[cfg(not(target_arch = "wasm32"))]
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(target_arch = "wasm32"))]
use std::time::{Duration, Instant};

use futures_intrusive::channel::shared::oneshot_channel;
use wgpu::{Buffer, BufferUsages, CommandEncoder, CommandEncoderDescriptor, MapMode};

use crate::error::{Error, Limit, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;

impl Context {
    /// A buffer that is filled without touching the queue.
    pub(crate) fn create_init(&self, label: &str, bytes: &[u8], usage: BufferUsages) -> Result<Buffer> {
        let size = bytes.len() as u64;
        let has = self.limits().max_buffer_size;
        if size > has {
            return Err(Error::Limit { limit: Limit::Device("max_buffer_size", String::new()), needed: size, actual: has });
        }
        // In browsers memory that cannot be had is an error of the write; mapped, it would be an exception that wgpu panics on.
        if cfg!(target_arch = "wasm32") {
            let buffer = self.create_buffer(label, size, usage | BufferUsages::COPY_DST)?;
            self.write(&buffer, 0, bytes)?;
            return Ok((*buffer).clone());
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true };
        let buffer = self.scoped(|| self.device().create_buffer(&descriptor))?;
        buffer.get_mapped_range_mut(..).map_err(|e| self.failure(e))?.copy_from_slice(bytes);
        buffer.unmap();
        Ok(buffer)
    }

    /// A zeroed buffer; one that is too large, or for which there is no memory, is an error, not wgpu's panic.
    pub fn create_buffer(&self, label: &str, size: u64, usage: BufferUsages) -> Result<DeviceBuffer> {
        let has = self.limits().max_buffer_size;
        if size > has {
            return Err(Error::Limit { limit: Limit::Device("max_buffer_size", String::new()), needed: size, actual: has });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let buffer = self.scoped(|| self.device().create_buffer(&descriptor))?;
        Ok(DeviceBuffer::new(self, buffer))
    }

    /// Uploads values, of 4 bytes each or together a multiple of 4, into a new storage buffer.
    pub fn upload<T: bytemuck::NoUninit>(&self, label: &str, values: &[T]) -> Result<DeviceBuffer> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        check_words(label, bytes.len() as u64)?;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffer = self.create_buffer(label, bytes.len().max(4) as u64, usage)?;
        self.write(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    /// Overwrites a part of a buffer from this byte on, for the next submit.
    pub(crate) fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, values: &[T]) -> Result<()> {
        self.check_own("to write to", buffer)?;
        self.scoped(|| self.queue().write_buffer(buffer, offset, bytemuck::cast_slice(values)))
    }

    pub(crate) fn encoder(&self, label: &str) -> CommandEncoder {
        self.device().create_command_encoder(&CommandEncoderDescriptor { label: Some(label) })
    }

    pub(crate) fn submit(&self, encoder: CommandEncoder) -> Result<()> {
        self.scoped(|| self.queue().submit([encoder.finish()])).map(drop)
    }

    /// Reads whole f32 buffers back, all in one submit; a [`DeviceBuffer`] by reference stands beside wgpu's own:
    /// `download([&mine, &theirs])`. Of f16 it gives the words, for [`Dtype::decode`](crate::Dtype::decode).
    pub async fn download<const N: usize>(&self, sources: [&Buffer; N]) -> Result<[Vec<f32>; N]> {
        for (i, source) in sources.into_iter().enumerate() {
            let name = SOURCES.get(i).copied().unwrap_or("download");
            let (needed, actual) = (BufferUsages::COPY_SRC, source.usage());
            if !actual.contains(needed) {
                return Err(Error::BufferUsage { name, needed, actual });
            }
            check_words(name, source.size())?;
            self.check_own(name, source)?;
        }
        let mut encoder = self.encoder("tidegate download");
        let owned = OwnedBuffers::default();
        let mut staging = Vec::new();
        for source in sources {
            let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
            let copy = owned.keep(self.create_buffer("tidegate staging", source.size(), usage))?;
            encoder.copy_buffer_to_buffer(source, 0, &copy, 0, source.size());
            staging.push(copy);
        }
        self.submit(encoder)?;
        // All maps are asked for before the first is waited for.
        let mapped: Vec<_> = staging.iter().map(|buffer| self.map(buffer)).collect();
        let mut values = [const { Vec::new() }; N];
        for (value, mapped) in values.iter_mut().zip(mapped) {
            *value = mapped.await?;
        }
        Ok(values)
    }

    /// [`download`](Context::download) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download_blocking<const N: usize>(&self, sources: [&Buffer; N]) -> Result<[Vec<f32>; N]> {
        pollster::block_on(self.download(sources))
    }

    /// Maps a staging buffer, copies its values out and unmaps it, so that it can be used again whatever came of it.
    pub(crate) fn map(&self, staging: &Buffer) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let (sender, receiver) = oneshot_channel();
        let (context, staging) = (self.clone(), staging.clone());
        let asked = self.scoped(|| {
            staging.map_async(MapMode::Read, .., move |result| {
                let _ = sender.send(result);
            });
        });
        async move {
            asked?;
            // In browsers the event loop brings the answer.
            #[cfg(not(target_arch = "wasm32"))]
            if let Err(error) = context.wait() {
                context.scoped(|| staging.unmap())?;
                return Err(error);
            }
            match receiver.receive().await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(context.refused(error).await),
                None => return Err(Error::DeviceLost),
            }
            if let Err(error) = context.settle().await {
                staging.unmap();
                return Err(error);
            }
            let view = staging.get_mapped_range(..).map_err(|e| context.failure(e))?;
            let values = bytemuck::pod_collect_to_vec(&view[..]);
            drop(view);
            staging.unmap();
            Ok(values)
        }
    }

    /// Resolves once all work submitted so far is done; natively the calling thread waits for it.
    pub async fn done(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.wait()?;
        #[cfg(target_arch = "wasm32")]
        {
            let (sender, receiver) = oneshot_channel();
            self.queue().on_submitted_work_done(move || {
                let _ = sender.send(());
            });
            receiver.receive().await.ok_or(Error::DeviceLost)?;
        }
        self.settle().await
    }

    /// Waits for all submitted work. It asks a GPU for up to 200 µs whether that is done before the thread sleeps, for a thread that
    /// slept wakes up late: a call that an H200 answers in 53 µs took 91.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        // A CPU adapter's work would share the cores with it.
        if !self.is_software() && self.is_done_within(SPIN)? {
            return Ok(());
        }
        self.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(self.timeout()) }).map(drop)
    }

    /// Whether all submitted work is done, asked again and again for so long.
    #[cfg(not(target_arch = "wasm32"))]
    fn is_done_within(&self, time: Duration) -> Result<bool> {
        let begun = Instant::now();
        loop {
            if self.poll(wgpu::PollType::Poll)?.is_queue_empty() {
                return Ok(true);
            }
            if begun.elapsed() > time {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn poll(&self, poll: wgpu::PollType) -> Result<wgpu::PollStatus> {
        // wgpu 30's poll panics where it meets a lost device itself.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device().poll(poll)));
        self.check_lost()?;
        Ok(polled.map_err(|_| Error::DeviceLost)??)
    }
}

/// How long a wait asks before the thread sleeps.
#[cfg(not(target_arch = "wasm32"))]
const SPIN: Duration = Duration::from_micros(200);

/// What an error calls the buffers of a download, by their place among its arguments: wgpu tells no label.
const SOURCES: [&str; 4] = ["download[0]", "download[1]", "download[2]", "download[3]"];

/// wgpu copies whole 4-byte words.
fn check_words(name: &str, bytes: u64) -> Result<()> {
    if bytes.is_multiple_of(4) { Ok(()) } else { Err(Error::Config(format!("`{name}` has {bytes} bytes, not a multiple of 4"))) }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn asking_ends_with_the_work_or_in_time() {
        // One of its own: other tests would submit too.
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        assert!(ctx.is_done_within(Duration::ZERO).unwrap(), "nothing was submitted");
        let size = 64 << 20;
        let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let [from, to] = ["from", "to"].map(|label| ctx.create_buffer(label, size, usage).unwrap());
        let mut encoder = ctx.encoder("copies");
        for _ in 0..8 {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, size);
        }
        ctx.submit(encoder).unwrap();
        let begun = Instant::now();
        assert!(!ctx.is_done_within(Duration::ZERO).unwrap(), "half a gigabyte was copied in {:?}", begun.elapsed());
        assert!(ctx.is_done_within(Duration::from_secs(60)).unwrap());
        ctx.wait().unwrap();
    }
}
