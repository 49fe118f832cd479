// needs: shared/step_forward shared/team
// A whole chunk of the sequence in one dispatch of teams of workgroups. A team walks all steps for sizes.team_rows batch rows of one
// direction; each of its sizes.members members makes some hidden units of them. The entry point is generated for a layout: see
// src/schedule/persistent/forward.rs.
//
// h and, for a cell of two phases, mid go to the other members through `exchange`; `state` is read and written by the unit's own
// thread only, but for what enters a chunk. The step index counts chunks of sizes.chunk steps, from step sizes.first to sizes.steps.

// Four weights from k on of a gate's row; 0 past the end of a row and for a unit that there is not, with indices inside the layer's.
fn weights_at(direction: u32, gate: u32, unit: u32, k: u32) -> vec4f {
    let last = sizes.hidden - 1u;
    let at = sizes.weight + direction * sizes.param_stride + (gate * sizes.hidden + min(unit, last)) * sizes.hidden;
    let w = vec4f(
        load_params(at + min(k, last)), load_params(at + min(k + 1u, last)),
        load_params(at + min(k + 2u, last)), load_params(at + min(k + 3u, last)),
    );
    let there = vec4u(k, k + 1u, k + 2u, k + 3u) <= vec4u(last);
    return select(vec4f(), w, there & vec4<bool>(unit <= last));
}
