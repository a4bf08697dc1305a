// Draws one token per row from softmax(logits / temperature): the same token as on the CPU for
// equal logits.
//
// sample_replacements_{f32,f16,bf16}(logits, row_stride, vocabulary, rows, sample_ids, positions,
//                                    seed_epoch, scale, row_bytes, out, flags)
//   logits      [rows, row_stride], of which the first `vocabulary` of each row are read
//   sample_ids  i64[rows], or null for the index of the row
//   positions   i64[rows], or null for 0
//   seed_epoch  i64[2] in device memory, so that a captured graph draws new tokens when they change
//   scale       f32(log2(e) / temperature) 2^25
//   row_bytes   bytes of dynamic shared memory for the logits of a row, or 0 to read them twice
//   out         i64[rows], -1 where a row is flagged
//   flags       u32[2], {0, 2^32 - 1} before the launch; after it, a code of flags.cuh and the
//               lowest row with an error
//
// Each row is sampled by one CTA of 256 threads. The row is read once, and all threads find the
// greatest logit and the exact sum of the weights. Then the token is found by repeatedly dividing
// the range that contains it into eight parts: each warp sums one part, and the part that contains
// the target remains.
#include "flags.cuh"
#include "philox.cuh"
#include "softmax_weights.cuh"

constexpr u32 SAMPLE_WARPS = 8;
constexpr u32 SAMPLE_THREADS = 32 * SAMPLE_WARPS;

// The weights of a row, whose logits are in shared memory or in global memory.
template <typename Format>
struct Row {
    const typename Format::Bits* logits;
    float max, scale;
    const u32* table;
    DEVICE u64 operator()(u32 token) const {
        return weight(distance(max, Format::read(logits[token]), scale), table);
    }
};

DEVICE u64 warp_sum(u64 value) {
    for (u32 step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
    return value;
}

template <typename Format>
DEVICE void sample(const typename Format::Bits* logits, u64 row_stride, u32 vocabulary,
                       const i64* sample_ids, const i64* positions, const i64* seed_epoch,
                       float scale, u32 row_bytes, i64* out, u32* flags) {
    typedef typename Format::Bits Bits;
    DYNAMIC_SHARED(memory);
    __shared__ u32 table[32];
    __shared__ float greatest[SAMPLE_WARPS];
    __shared__ u64 sums[SAMPLE_WARPS];
    __shared__ u32 refused[SAMPLE_WARPS];
    u32 row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    logits += row * row_stride;
    Bits* kept = (Bits*)memory;
    if (threadIdx.x < 32) table[threadIdx.x] = EXP2_TABLE[threadIdx.x];
    const float infinity = __uint_as_float(0x7F800000u);
    float max = -infinity;
    bool bad = false;
    // Each load takes sixteen bytes if the address of the row is a multiple of sixteen.
    constexpr u32 WIDE = 16 / sizeof(Bits);
    u32 wide = (u64)logits % 16 == 0 ? vocabulary / WIDE : 0;
    for (u32 i = threadIdx.x; i < wide; i += SAMPLE_THREADS) {
        uint4 words = ((const uint4*)logits)[i];
        if (row_bytes) ((uint4*)kept)[i] = words;
        u32 parts[4] = {words.x, words.y, words.z, words.w};
        for (u32 j = 0; j < WIDE; j++) {
            u32 bits = sizeof(Bits) == 4 ? parts[j] : parts[j / 2] >> 16 * (j % 2);
            float logit = Format::read((Bits)bits);
            bad |= !(logit < infinity);
            max = logit > max ? logit : max;
        }
    }
    for (u32 i = WIDE * wide + threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) {
        Bits bits = logits[i];
        if (row_bytes) kept[i] = bits;
        float logit = Format::read(bits);
        bad |= !(logit < infinity);
        max = logit > max ? logit : max;
    }
    for (u32 step = 16; step > 0; step /= 2) {
        float other = __shfl_xor_sync(~0u, max, step);
        max = other > max ? other : max;
    }
    bad = __any_sync(~0u, bad);
    if (lane == 0) {
        greatest[warp] = max;
        refused[warp] = bad;
    }
    __syncthreads();
    for (u32 w = 0; w < SAMPLE_WARPS; w++) {
        max = greatest[w] > max ? greatest[w] : max;
        bad |= refused[w] != 0;
    }
    i64 sample_id = sample_ids ? sample_ids[row] : (i64)row;
    i64 position = positions ? positions[row] : 0, seed = seed_epoch[0], epoch = seed_epoch[1];
    u32 flag = bad                                            ? FLAG_LOGITS
               : max == -infinity                             ? FLAG_NO_LOGITS
               : sample_id < 0                                ? FLAG_SAMPLE_ID
               : position < 0 || position > 0xFFFFFFFFll      ? FLAG_POSITION
               : seed < 0 || epoch < 0                        ? FLAG_SEED
                                                              : FLAG_OK;
    if (flag != FLAG_OK) {
        if (threadIdx.x == 0) {
            out[row] = -1;
            raise_at(flags, flag, row);
        }
        return;
    }
    Row<Format> weights{row_bytes ? kept : logits, max, scale, table};
    u64 sum = 0;
    for (u32 i = threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) sum += weights(i);
    sum = warp_sum(sum);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    u64 total = 0;
    for (u32 w = 0; w < SAMPLE_WARPS; w++) total += sums[w];
    u64 uniform = uniform_bits((u64)seed, (u64)epoch, (u64)sample_id, (u32)position);
    u64 target = __umul64hi(uniform, total);
    // The token is the first whose inclusive sum exceeds the target; it is in [from, to).
    u32 from = 0, to = vocabulary;
    while (to - from > 32) {
        u32 share = (to - from + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
        u32 begin = from + warp * share < to ? from + warp * share : to;
        u32 end = begin + share < to ? begin + share : to;
        sum = 0;
        for (u32 i = begin + lane; i < end; i += 32) sum += weights(i);
        sum = warp_sum(sum);
        __syncthreads();  // the previous sums have been read
        if (lane == 0) sums[warp] = sum;
        __syncthreads();
        u32 part = 0;
        while (part < SAMPLE_WARPS - 1 && sums[part] <= target) target -= sums[part++];
        from += part * share;
        to = from + share < to ? from + share : to;
    }
    if (warp != 0) return;
    u64 upto = from + lane < to ? weights(from + lane) : 0;
    for (u32 step = 1; step < 32; step *= 2) {
        u64 left = __shfl_up_sync(~0u, upto, step);
        if (lane >= step) upto += left;
    }
    u32 beyond = __ballot_sync(~0u, upto > target);
    if (lane == 0) out[row] = from + __ffs(beyond) - 1;
}

#define SAMPLE_REPLACEMENTS(name, Format)                                                  \
    extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)                           \
        name(const Format::Bits* __restrict__ logits, u64 row_stride, u32 vocabulary,      \
             u32 rows, const i64* __restrict__ sample_ids,                                 \
             const i64* __restrict__ positions, const i64* __restrict__ seed_epoch,        \
             float scale, u32 row_bytes, i64* __restrict__ out, u32* __restrict__ flags) { \
        if (blockIdx.x < rows) {                                                           \
            sample<Format>(logits, row_stride, vocabulary, sample_ids, positions,          \
                           seed_epoch, scale, row_bytes, out, flags);                      \
        }                                                                                  \
    }

SAMPLE_REPLACEMENTS(sample_replacements_f32, F32)
SAMPLE_REPLACEMENTS(sample_replacements_f16, F16)
SAMPLE_REPLACEMENTS(sample_replacements_bf16, BF16)
