// Computes y += scale (x A^T) B^T for batches in which each row has its own packed LoRA expert. A
// and B stay packed, so that a token needs two bits of memory traffic per parameter instead of
// sixteen.
//
// apply_lora_{f32,f16,bf16}(x, y, rows, in, out, expert_of_row, experts, n_experts, flags)
//   x              [rows, in];  y  [rows, out], read and written
//   expert_of_row  i32[rows]: -1 leaves a row of y unchanged
//   experts        Lora[n_experts]
//   flags          u32[2], {0, 2^32 - 1} before the launch; after it, FLAG_EXPERT and the lowest
//                  row with this error
//
// Each row is computed by one CTA of 256 threads. The kernel is meant for small batches, where most
// of the time is spent reading A and B. Sums are float32 in an order that depends only on `in` and
// the rank (the words of a lane in ascending order, then a tree over the lanes, then the ranks in
// ascending order), and the sum with y is rounded once, so the result of a row does not depend on
// its batch.
#include "flags.cuh"

constexpr u32 LORA_WARPS = 8;
constexpr u32 MAX_RANK = 512;

// Planes of bits of A [rank, in] and B [out, rank]. Each row fills whole u32 words, with zeros at
// the end. A bit of `nonzero` is set where the trit is not 0, and a bit of `negative` where it is
// -1.
struct Lora {
    const u32 *a_nonzero, *a_negative, *b_nonzero, *b_negative;
    float a_scale, b_scale;
    u32 rank, reserved;
};

// Returns the sum of the values whose trits are +1, minus the sum of those whose trits are -1.
template <typename Read>
DEVICE float signed_sum(u32 nonzero, u32 negative, Read read) {
    float sum = 0;
    while (nonzero != 0) {
        u32 bit = __ffs(nonzero) - 1;
        nonzero &= nonzero - 1;
        float value = read(bit);
        sum += negative >> bit & 1 ? -value : value;
    }
    return sum;
}

template <typename Format>
DEVICE void apply(const typename Format::Bits* x, typename Format::Bits* y, u32 in, u32 out,
                  const i32* expert_of_row, const Lora* experts, u32 n_experts, u32* flags) {
    __shared__ float hidden[MAX_RANK];
    u32 row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i32 number = expert_of_row[row];
    if (number == -1) return;
    if (number < 0 || (u32)number >= n_experts || experts[number].rank > MAX_RANK) {
        if (threadIdx.x == 0) raise_at(flags, FLAG_EXPERT, row);
        return;
    }
    Lora expert = experts[number];
    x += (u64)row * in;
    y += (u64)row * out;
    u32 words = (in + 31) / 32;
    for (u32 r = warp; r < expert.rank; r += LORA_WARPS) {
        float sum = 0;
        for (u32 w = lane; w < words; w += 32) {
            u64 place = (u64)r * words + w;
            sum += signed_sum(expert.a_nonzero[place], expert.a_negative[place], [&](u32 bit) {
                u32 column = 32 * w + bit;
                return column < in ? Format::read(x[column]) : 0.0f;
            });
        }
        for (u32 step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
        if (lane == 0) hidden[r] = sum * expert.a_scale;
    }
    __syncthreads();
    u32 rank_words = (expert.rank + 31) / 32;
    for (u32 o = threadIdx.x; o < out; o += 32 * LORA_WARPS) {
        float sum = 0;
        for (u32 w = 0; w < rank_words; w++) {
            u64 place = (u64)o * rank_words + w;
            sum += signed_sum(expert.b_nonzero[place], expert.b_negative[place], [&](u32 bit) {
                u32 r = 32 * w + bit;
                return r < expert.rank ? hidden[r] : 0.0f;
            });
        }
        y[o] = Format::round(Format::read(y[o]) + sum * expert.b_scale);
    }
}

#define APPLY_LORA(name, Format)                                                           \
    extern "C" __global__ void __launch_bounds__(32 * LORA_WARPS)                          \
        name(const Format::Bits* __restrict__ x, Format::Bits* __restrict__ y, u32 rows,   \
             u32 in, u32 out, const i32* __restrict__ expert_of_row,                       \
             const Lora* __restrict__ experts, u32 n_experts, u32* __restrict__ flags) {   \
        if (blockIdx.x < rows) {                                                           \
            apply<Format>(x, y, in, out, expert_of_row, experts, n_experts, flags);        \
        }                                                                                  \
    }

APPLY_LORA(apply_lora_f32, F32)
APPLY_LORA(apply_lora_f16, F16)
APPLY_LORA(apply_lora_bf16, BF16)
