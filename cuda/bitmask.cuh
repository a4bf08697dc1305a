// Bitmask and packed signs (docs/expert-format.md, section 6): one CTA decodes one stream. Each
// warp takes a quarter of the mask words, and first counts their bits to find where its signs
// begin.
#pragma once
#include "block.cuh"
#include "writer.cuh"

// Returns the 32 sign bits that start at bit `at`. Bits past the end of the stream come from the
// guard of the block.
DEVICE u32 bits_at(const u8* bytes, u32 at) {
    const u32* words = (const u32*)bytes + at / 32;
    return __funnelshift_r(__ldg(words), __ldg(words + 1), at % 32);
}

// Writes or adds a row of 32 quads, one for each lane, or only the quads of the first `words` of
// its four words. `quads[turn + i]` is `quads[i]` with inverted signs.
template <typename Format>
DEVICE void put_row(Writer<Format>& writer, const Quad* quads, u32 turn,
                                        u32 index, u64 row, u32 lane, u64 stop, u32 words) {
    writer.seek(row);
    u64 at = row + 4 * lane;
    if (words < 4 || writer.whole_rows(row, 128, stop) == 0) {
        if (lane / 8 < words) writer.apart(quads[index], at, stop);
    } else if (writer.mode == MODE_WRITE) {
        Quad quad = quads[index + (writer.negative() ? turn : 0)];
        Writer<Format>::write(quad, writer.place(at), writer.keep());
    } else {
        Writer<Format>::add(quads[index], writer.place(at), writer.scale);
    }
}

// Decodes a stream; all threads of the CTA must call it. `counts` has one element for each warp;
// `pairs` are the quads for four mask bits and the sign of each set bit, in order.
template <typename Format, u32 WARPS>
DEVICE u32 decode_bitmask(const Stream& stream, const Quad* pairs, u32* counts,
                              u32 warp, u32 lane, Writer<Format>& writer) {
    u32 words = (stream.trits + 31) / 32, share = (words + WARPS - 1) / WARPS;
    u32 from = warp * share < words ? warp * share : words;
    u32 to = from + share < words ? from + share : words;
    const u32* mask_words = (const u32*)stream.bytes;
    u32 count = 0;
    bool fits = 4 * words <= stream.len;
    if (fits) {
        for (u32 w = from + lane; w < to; w += 32) count += __popc(__ldg(mask_words + w));
    }
    for (u32 step = 16; step > 0; step /= 2) count += __shfl_xor_sync(~0u, count, step);
    __syncthreads();  // the last stream's counts have been read
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    u32 nonzeros = 0, next = 0;
    for (u32 w = 0; w < WARPS; w++) {
        if (w == warp) next = nonzeros;
        nonzeros += counts[w];
    }
    // From here to the loop, all threads compute the same.
    u32 needed = (4 * words + (nonzeros + 7) / 8 + 15) / 16 * 16;
    if (!fits || needed != stream.len) return FLAG_BITMASK;
    if (nonzeros != stream.nonzeros) return FLAG_NONZEROS;
    if (stream.trits % 32 != 0 && mask_words[words - 1] >> stream.trits % 32 != 0) {
        return FLAG_PAST_END;
    }
    const u8* signs = stream.bytes + 4 * words;
    // At most 15 bytes and 7 bits follow the last sign.
    u32 byte = nonzeros / 8 + lane, odd = 0;
    if (4 * words + byte < stream.len) odd = lane == 0 ? signs[byte] >> nonzeros % 8 : signs[byte];
    if (__any_sync(~0u, odd != 0)) return FLAG_BITMASK;
    u64 stop = stream.first + stream.trits;
    for (u32 w = from; w < to; w += 32) {
        // One word for each lane, and the place where its signs begin.
        u32 mask = w + lane < to ? __ldg(mask_words + w + lane) : 0, ones = __popc(mask), sum = ones;
        for (u32 step = 1; step < 32; step *= 2) {
            u32 left = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += left;
        }
        u32 negative = bits_at(signs, next + sum - ones);
        next += __shfl_sync(~0u, sum, 31);
        // Four words at a time, so that each lane has one quad.
#pragma unroll 1
        for (u32 part = 0; part < 8 && w + 4 * part < to; part++) {
            u32 source = 4 * part + lane / 8, shift = 4 * (lane % 8);
            u32 bits = __shfl_sync(~0u, mask, source);
            u32 sign = __shfl_sync(~0u, negative, source) >> __popc(bits & ((1u << shift) - 1));
            u32 pair = (bits >> shift & 15) | (sign & 15) << 4;
            u64 row = stream.first + 32ull * (w + 4 * part);
            u32 words_left = to - w - 4 * part;
            put_row<Format>(writer, pairs, 256, pair, row, lane, stop, words_left);
        }
    }
    return FLAG_OK;
}

// Writes the zeros of a stream that has only zeros.
template <typename Format, u32 WARPS>
DEVICE void decode_zero(const Stream& stream, const Quad* pairs, u32 warp,
                                            u32 lane, Writer<Format>& writer) {
    u64 stop = stream.first + stream.trits;
    for (u64 row = stream.first + 128 * warp; row < stop; row += 128 * WARPS) {
        put_row<Format>(writer, pairs, 256, 0, row, lane, stop, 4);
    }
}
