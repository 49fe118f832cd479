// What the strategies stand on: a dispatch that depends on the one before, and workgroups that wait for each other.

@group(0) @binding(0) var<storage, read_write> words: array<atomic<u32>>;

struct Sizes { rounds: u32, spin_limit: u32 }
@group(0) @binding(1) var<uniform> sizes: Sizes;

@compute @workgroup_size(1)
fn touch() {
    atomicAdd(&words[0], 1u);
}

// Every workgroup publishes a word of its own each round and waits for all others' of that round: what a step of strategy
// persistent does, without its arithmetic. words: failures, then [rounds, workgroups].
@compute @workgroup_size(64)
fn exchange(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    for (var round = 0u; round < sizes.rounds; round++) {
        let row = 1u + round * groups.x;
        if thread == 0u { atomicStore(&words[row + group.x], 1u); }
        for (var i = thread; i < groups.x; i += 64u) {
            var polls = 0u;
            while atomicLoad(&words[row + i]) == 0u {
                polls++;
                if polls > sizes.spin_limit || (polls % 256u == 0u && atomicLoad(&words[0]) != 0u) {
                    atomicAdd(&words[0], 1u);
                    break;
                }
            }
        }
        workgroupBarrier();
    }
}
