// Input and labels of replaced-token detection (rust/core/src/replace/labels.rs). Two kernels run
// one after the other: the first writes the whole array, the second the masked positions.
//
//   original          i64[n], negative at padding
//   sampled, masked   i64[m]: ids, and flat positions, strictly ascending
//   input_ids         i64[n]: samples at masked positions, and the pad id at padding
//   labels            i8[n]: 1 replaced, 0 original, -100 at padding
//   flags             u32[2], {0, 2^32 - 1} before the launch; after it, a code and the lowest
//                     index of a masked position with an error, for which nothing is written
#include "flags.cuh"

constexpr i8 IGNORED = -100;

extern "C" __global__ void __launch_bounds__(256)
    replaced_token_labels_fill(const i64* __restrict__ original, u64 n, i64 pad_token_id,
                               i64* __restrict__ input_ids, i8* __restrict__ labels) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    i64 id = original[i];
    input_ids[i] = id < 0 ? pad_token_id : id;
    labels[i] = id < 0 ? IGNORED : 0;
}

extern "C" __global__ void __launch_bounds__(256)
    replaced_token_labels_scatter(const i64* __restrict__ original, u64 n,
                                  const i64* __restrict__ sampled, const i64* __restrict__ masked,
                                  u64 m, i64* __restrict__ input_ids, i8* __restrict__ labels,
                                  u32* __restrict__ flags) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= m) return;
    i64 place = masked[i], above = i > 0 ? masked[i - 1] : -1, id = sampled[i];
    // `place < 0` is checked separately, because of two negative positions the second may be
    // greater.
    u32 flag = place < 0 || place <= above || place >= (i64)n ? FLAG_MASKED
               : original[place] < 0                          ? FLAG_PADDING
               : id < 0                                       ? FLAG_SAMPLED
                                                              : FLAG_OK;
    if (flag != FLAG_OK) {
        raise_at(flags, flag, (u32)i);
        return;
    }
    input_ids[place] = id;
    labels[place] = id != original[place];
}
