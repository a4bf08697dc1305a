// Draws one token per row from softmax(logits / temperature) over the tokens that may be drawn: the
// same token as on the CPU for equal logits.
//
// sample_replacements_{f32,f16,bf16}(logits, row_stride, vocabulary, rows, sample_ids, positions,
//                                    seed_epoch, scale, forbidden, forbidden_count, excluded, top_k,
//                                    row_bytes, scratch, out, flags)
//   logits      [rows, row_stride], of which the first `vocabulary` of each row are read
//   sample_ids  i64[rows], or null for the index of the row
//   positions   i64[rows], or null for 0
//   seed_epoch  i64[2] in device memory, so that a captured graph draws new tokens when they change
//   scale       f32(log2(e) / temperature) 2^25
//   forbidden   i64[forbidden_count], tokens that no row draws
//   excluded    i64[rows], a token that each row does not draw, or null
//   top_k       draw among this many likeliest tokens, and those as likely as the last of them; 0
//               for all
//   row_bytes   bytes of dynamic shared memory for the logits of a row, or 0 to read them again
//   scratch     [rows, vocabulary] in the format of the logits, or null. Where row_bytes is 0 and
//               not all tokens may be drawn, the logits of those that may are kept here
//   out         i64[rows], -1 where a row is flagged
//   flags       u32[2], {0, 2^32 - 1} before the launch; after it, a code of flags.cuh and the
//               lowest row with an error
//
// Each row is sampled by one CTA of 256 threads. The row is read once, and all threads find the
// greatest logit and the exact sum of the envelopes. Then a proposal is found by repeatedly dividing
// the range that contains it into eight parts: each warp sums one part, and the part that contains
// the target remains.
#include "flags.cuh"
#include "philox.cuh"
#include "softmax.cuh"

constexpr u32 SAMPLE_WARPS = 8;
constexpr u32 SAMPLE_THREADS = 32 * SAMPLE_WARPS;

// Number of proposals, the last of which is accepted: it is reached once in 2^64 rows.
constexpr u32 MOST_PROPOSALS = 64;

// The distances of a row, whose logits are in shared memory or in global memory.
template <typename Format>
struct Row {
    const typename Format::Bits* logits;
    float max, scale;
    DEVICE u32 at(u32 token) const { return distance(max, Format::read(logits[token]), scale); }
};

DEVICE u64 warp_sum(u64 value) {
    for (u32 step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
    return value;
}

// What a thread has found in its part of a row, and then what all have found together.
struct Found {
    float max;
    bool bad;      // NaN or +inf
    bool outside;  // a token that may not be drawn is outside the vocabulary
};

DEVICE Found combine(Found found, float* greatest, u32* faults) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float max = found.max;
    for (u32 step = 16; step > 0; step /= 2) {
        float other = __shfl_xor_sync(~0u, max, step);
        max = other > max ? other : max;
    }
    bool bad = __any_sync(~0u, found.bad), outside = __any_sync(~0u, found.outside);
    if (lane == 0) {
        greatest[warp] = max;
        faults[warp] = (bad ? 1 : 0) | (outside ? 2 : 0);
    }
    __syncthreads();
    u32 any = 0;
    for (u32 w = 0; w < SAMPLE_WARPS; w++) {
        max = greatest[w] > max ? greatest[w] : max;
        any |= faults[w];
    }
    return {max, (any & 1) != 0, (any & 2) != 0};
}

// An integer that orders as the logits do.
DEVICE u32 order_key(float logit) {
    u32 bits = __float_as_uint(logit);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// The key of the k-th greatest of the kept logits: the digits of the key in base 256, from the
// highest on, each by counting the keys that share those before it.
template <typename Format>
DEVICE u32 key_of_rank(const typename Format::Bits* kept, u32 vocabulary, u32 k, u32* counts) {
    u32 prefix = 0;
    for (u32 shift = 32; shift > 0;) {
        shift -= 8;
        for (u32 i = threadIdx.x; i < 256; i += SAMPLE_THREADS) counts[i] = 0;
        __syncthreads();
        for (u32 i = threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) {
            u32 key = order_key(Format::read(kept[i]));
            // At the first digit there is nothing to share, and a shift by 32 is undefined.
            if (shift == 24 || key >> (shift + 8) == prefix) {
                atomicAdd(&counts[key >> shift & 255], 1u);
            }
        }
        __syncthreads();
        u32 digit = 255;
        while (digit > 0 && counts[digit] < k) k -= counts[digit--];
        prefix = prefix << 8 | digit;
        __syncthreads();  // the counts have been read
    }
    return prefix;
}

// Writes -inf over the kept logits of the tokens that may not be drawn. Returns false if a
// forbidden or excluded token is outside the vocabulary.
template <typename Format>
DEVICE bool keep_allowed(typename Format::Bits* kept, u32 vocabulary, const i64* forbidden,
                         u32 forbidden_count, const i64* excluded, u32 row, u32 top_k,
                         u32* counts) {
    typedef typename Format::Bits Bits;
    const Bits never = Format::round(__uint_as_float(0xFF800000u));
    bool inside = true;
    __syncthreads();  // the row has been copied
    for (u32 i = threadIdx.x; i < forbidden_count + (excluded ? 1 : 0); i += SAMPLE_THREADS) {
        i64 token = i < forbidden_count ? forbidden[i] : excluded[row];
        if (token < 0 || token >= (i64)vocabulary) inside = false;
        else kept[token] = never;
    }
    __syncthreads();
    if (top_k > 0 && top_k < vocabulary) {
        u32 key = key_of_rank<Format>(kept, vocabulary, top_k, counts);
        float lowest = __uint_as_float(key >> 31 ? key & 0x7FFFFFFFu : ~key);
        for (u32 i = threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) {
            if (Format::read(kept[i]) < lowest) kept[i] = never;
        }
        __syncthreads();
    }
    return inside;
}

template <typename Format>
struct Inputs {
    const typename Format::Bits* logits;
    u64 row_stride;
    u32 vocabulary;
    const i64 *sample_ids, *positions, *seed_epoch;
    float scale;
    const i64* forbidden;
    u32 forbidden_count;
    const i64* excluded;
    u32 top_k, row_bytes;
    typename Format::Bits* scratch;
};

template <typename Format>
DEVICE void sample(Inputs<Format> in, i64* out, u32* flags) {
    typedef typename Format::Bits Bits;
    DYNAMIC_SHARED(memory);
    __shared__ float greatest[SAMPLE_WARPS];
    __shared__ u64 sums[SAMPLE_WARPS];
    __shared__ u32 faults[SAMPLE_WARPS], counts[256];
    u32 row = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 vocabulary = in.vocabulary;
    const Bits* logits = in.logits + row * in.row_stride;
    Bits* kept = in.row_bytes ? (Bits*)memory
                 : in.scratch ? in.scratch + (u64)row * vocabulary
                              : nullptr;
    const float infinity = __uint_as_float(0x7F800000u);
    float max = -infinity;
    bool bad = false;
    // Each load takes sixteen bytes if the address of the row is a multiple of sixteen.
    constexpr u32 WIDE = 16 / sizeof(Bits);
    bool aligned = (u64)logits % 16 == 0 && (!kept || (u64)kept % 16 == 0);
    u32 wide = aligned ? vocabulary / WIDE : 0;
    for (u32 i = threadIdx.x; i < wide; i += SAMPLE_THREADS) {
        uint4 words = ((const uint4*)logits)[i];
        if (kept) ((uint4*)kept)[i] = words;
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
        if (kept) kept[i] = bits;
        float logit = Format::read(bits);
        bad |= !(logit < infinity);
        max = logit > max ? logit : max;
    }
    bool outside = false;
    if (in.forbidden_count || in.excluded || in.top_k) {
        outside = !keep_allowed<Format>(kept, vocabulary, in.forbidden, in.forbidden_count,
                                        in.excluded, row, in.top_k, counts);
        max = -infinity;
        bad = false;
        for (u32 i = threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) {
            float logit = Format::read(kept[i]);
            bad |= !(logit < infinity);
            max = logit > max ? logit : max;
        }
    }
    Found known = combine({max, bad, outside}, greatest, faults);
    i64 sample_id = in.sample_ids ? in.sample_ids[row] : (i64)row;
    i64 position = in.positions ? in.positions[row] : 0;
    i64 seed = in.seed_epoch[0], epoch = in.seed_epoch[1];
    u32 flag = known.bad                                    ? FLAG_LOGITS
               : known.max == -infinity                     ? FLAG_NO_LOGITS
               : sample_id < 0                              ? FLAG_SAMPLE_ID
               : position < 0 || position > 0xFFFFFFFFll    ? FLAG_POSITION
               : seed < 0 || epoch < 0                      ? FLAG_SEED
               : known.outside                              ? FLAG_TOKEN
                                                            : FLAG_OK;
    if (flag != FLAG_OK) {
        if (threadIdx.x == 0) {
            out[row] = -1;
            raise_at(flags, flag, row);
        }
        return;
    }
    Row<Format> distances{kept ? kept : logits, known.max, in.scale};
    u64 sum = 0;
    for (u32 i = threadIdx.x; i < vocabulary; i += SAMPLE_THREADS) sum += envelope(distances.at(i));
    sum = warp_sum(sum);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    u64 total = 0;
    for (u32 w = 0; w < SAMPLE_WARPS; w++) total += sums[w];
    Words key = draw_key((u64)seed, (u64)epoch);
    for (u32 proposal = 0; proposal < MOST_PROPOSALS; proposal++) {
        Words words = draw_words(key, (u64)sample_id, (u32)position, proposal);
        u64 target = __umul64hi(words.a | (u64)words.b << 32, total);
        // The token is the first whose inclusive sum exceeds the target; it is in [from, to).
        u32 from = 0, to = vocabulary;
        while (to - from > 32) {
            u32 share = (to - from + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
            u32 begin = from + warp * share < to ? from + warp * share : to;
            u32 end = begin + share < to ? begin + share : to;
            sum = 0;
            for (u32 i = begin + lane; i < end; i += 32) sum += envelope(distances.at(i));
            sum = warp_sum(sum);
            __syncthreads();  // the previous sums have been read
            if (lane == 0) sums[warp] = sum;
            __syncthreads();
            u32 part = 0;
            while (part < SAMPLE_WARPS - 1 && sums[part] <= target) target -= sums[part++];
            from += part * share;
            to = from + share < to ? from + share : to;
        }
        // Every warp finishes the search, so that all know whether there is another proposal.
        u64 upto = from + lane < to ? envelope(distances.at(from + lane)) : 0;
        for (u32 step = 1; step < 32; step *= 2) {
            u64 left = __shfl_up_sync(~0u, upto, step);
            if (lane >= step) upto += left;
        }
        u32 token = from + __ffs(__ballot_sync(~0u, upto > target)) - 1;
        if (words.c < acceptance(distances.at(token)) || proposal == MOST_PROPOSALS - 1) {
            if (threadIdx.x == 0) out[row] = token;
            return;
        }
    }
}

#define SAMPLE_REPLACEMENTS(name, Format)                                                        \
    extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)                                 \
        name(const Format::Bits* __restrict__ logits, u64 row_stride, u32 vocabulary, u32 rows,  \
             const i64* __restrict__ sample_ids, const i64* __restrict__ positions,              \
             const i64* __restrict__ seed_epoch, float scale, const i64* __restrict__ forbidden, \
             u32 forbidden_count, const i64* __restrict__ excluded, u32 top_k, u32 row_bytes,    \
             Format::Bits* __restrict__ scratch, i64* __restrict__ out,                          \
             u32* __restrict__ flags) {                                                          \
        if (blockIdx.x < rows) {                                                                 \
            sample<Format>({logits, row_stride, vocabulary, sample_ids, positions, seed_epoch,   \
                            scale, forbidden, forbidden_count, excluded, top_k, row_bytes,       \
                            scratch},                                                            \
                           out, flags);                                                          \
        }                                                                                        \
    }

SAMPLE_REPLACEMENTS(sample_replacements_f32, F32)
SAMPLE_REPLACEMENTS(sample_replacements_f16, F16)
SAMPLE_REPLACEMENTS(sample_replacements_bf16, BF16)
