// Decodes packed blocks to scaled floats: any tensors of any number of blocks in one launch.
//
// unpack_{f32,f16,bf16}(blocks, segments, works, n_works, flags)
//   blocks    Block[]: whole packed blocks
//   segments  Segment[]: the destinations of trits; those of a block ascend and do not overlap
//   works     Work[n_works]: a stream and the segments that may overlap it; or null for the streams
//             0 .. n_works-1 of block 0 and segment 0
//   flags     u32[1], 0 before the launch; after it, 0 or a code of flags.cuh
//
// There are (n_works + 3) / 4 CTAs of 128 threads each. A T4-rANS stream is decoded by one warp,
// other streams by all four. A damaged stream raises a flag; its output may be incomplete, but
// nothing outside its output is written.
#include "bitmask.cuh"
#include "t4_rans.cuh"

struct Work {
    u32 block, stream, first_segment, end_segment;
};

constexpr u32 WARPS = 4;

DEVICE Work work_of(const Work* works, u32 number) {
    return works ? works[number] : Work{0, number, 0, 1};
}

template <typename Format>
DEVICE void unpack(const Block* blocks, const Segment* segments, const Work* works, u32 n_works,
                   u32* flags) {
    // Both tables are followed by the same quads with inverted signs, for negative scales.
    __shared__ Quad symbols[2 * 81];
    __shared__ Quad pairs[2 * 256];  // for four mask bits and the sign of each set bit
    __shared__ Kind kinds[WARPS][5];
    __shared__ u32 counts[WARPS];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (u32 i = threadIdx.x; i < 81; i += 32 * WARPS) {
        symbols[i] = quad_of_bits(T4_KEYS[i] & 15, T4_KEYS[i] >> 4);
        symbols[81 + i] = turned(symbols[i]);
    }
    for (u32 i = threadIdx.x; i < 256; i += 32 * WARPS) {
        pairs[i] = quad_of_bits(i & 15, deposited(i & 15, i >> 4));
        pairs[256 + i] = turned(pairs[i]);
    }
    __syncthreads();
    for (u32 i = 0; i < WARPS; i++) {
        u32 number = WARPS * blockIdx.x + i;
        if (number >= n_works) break;
        Work work = work_of(works, number);
        Stream stream;
        u32 flag = read_stream(blocks[work.block], work.stream, stream);
        if (flag == FLAG_OK && stream.trits != 0) {
            Writer<Format> writer;
            if (stream.coding == BITMASK) {
                writer.start(segments, work.first_segment, work.end_segment);
                flag = decode_bitmask<Format, WARPS>(stream, pairs, counts, warp, lane, writer);
            } else if (stream.coding == ZERO) {
                writer.start(segments, work.first_segment, work.end_segment);
                decode_zero<Format, WARPS>(stream, pairs, warp, lane, writer);
            }
        }
        if (flag != FLAG_OK && lane == 0) raise(flags, flag);
    }
    u32 number = WARPS * blockIdx.x + warp;
    if (number >= n_works) return;
    // Read again: keeping it across the loop above would need more registers than there are (60
    // bytes were spilled).
    Work work = work_of(works, number);
    Stream stream;
    if (read_stream(blocks[work.block], work.stream, stream) != FLAG_OK) return;
    if (stream.trits == 0 || stream.coding != T4) return;
    Writer<Format> writer;
    writer.start(segments, work.first_segment, work.end_segment);
    fill_kinds(kinds[warp], stream.density_class, lane);
    __syncwarp();
    u32 flag = decode_t4<Format>(stream, kinds[warp], symbols, lane, writer);
    if (flag != FLAG_OK && lane == 0) raise(flags, flag);
}

#define UNPACK(name, Format)                                                               \
    extern "C" __global__ void __launch_bounds__(128, 8)                                    \
        name(const Block* __restrict__ blocks, const Segment* __restrict__ segments,       \
             const Work* __restrict__ works, u32 n_works, u32* __restrict__ flags) {       \
        unpack<Format>(blocks, segments, works, n_works, flags);                           \
    }

UNPACK(unpack_f32, F32)
UNPACK(unpack_f16, F16)
UNPACK(unpack_bf16, BF16)

// Decodes one block of `count` trits to one array, without tables, so that a captured graph needs
// no copies.
//
// unpack_flat_{f32,f16,bf16}(bytes, len, out, count, scale, mode, n_works, flags)
//   n_works  at least the number of streams: ceil(count / 32768) is enough for every block
template <typename Format>
DEVICE void unpack_flat(Block block, Segment segment, u32 n_works, u32* flags) {
    __shared__ Block blocks[1];
    __shared__ Segment segments[1];
    if (threadIdx.x == 0) {
        blocks[0] = block;
        segments[0] = segment;
        // A block that is too short for a header is flagged by read_stream.
        bool header = block.len >= HEADER + GUARD && block.bytes % 16 == 0;
        const u32* words = (const u32*)block.bytes;
        if (header && (words[2] | (u64)words[3] << 32) != segment.count) raise(flags, FLAG_COUNT);
    }
    __syncthreads();
    unpack<Format>(blocks, segments, nullptr, n_works, flags);
}

#define UNPACK_FLAT(name, Format)                                                          \
    extern "C" __global__ void __launch_bounds__(128, 8)                                   \
        name(const u8* __restrict__ bytes, u64 len, Format::Bits* __restrict__ out,        \
             u64 count, float scale, u32 mode, u32 n_works, u32* __restrict__ flags) {     \
        unpack_flat<Format>({(u64)bytes, len}, {(u64)out, 0, count, scale, mode, 0, 0},    \
                            n_works, flags);                                               \
    }

UNPACK_FLAT(unpack_flat_f32, F32)
UNPACK_FLAT(unpack_flat_f16, F16)
UNPACK_FLAT(unpack_flat_bf16, BF16)
