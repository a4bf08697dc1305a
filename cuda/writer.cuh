// Writes decoded trits: each piece of a block's flat sequence has its own destination and scale.
#pragma once
#include "types.cuh"

constexpr u32 MODE_WRITE = 0;  // out = scale * trit; a zero trit gives +0
constexpr u32 MODE_ADD = 1;    // out = round(float(out) + scale * trit) if the trit is not zero
constexpr u32 MODE_VALUES = 2;  // out = round(minus, zero or plus): for IA3, which starts at 1

struct Segment {
    u64 out;    // address of its first element
    u64 first;  // index of its first trit in the block
    u64 count;
    float plus;  // the scale, or in MODE_VALUES the value of +1
    u32 mode;
    float minus, zero;  // used in MODE_VALUES
};

// Four trits as 16-bit halves, the first one lowest: 0 for a zero trit, 0x7FFF for +1 and 0xFFFF
// for -1. AND with the bits of a scale whose sign bit is set gives 0, scale or -scale. This takes
// one instruction for two 16-bit values, and no table has to be rebuilt when the scale changes.
struct __align__(8) Quad {
    u32 low, high;
};

// Returns the quad for four mask bits and the four sign bits at the same places.
DEVICE Quad quad_of_bits(u32 mask, u32 negative) {
    u32 halves[4];
    for (u32 j = 0; j < 4; j++) {
        halves[j] = (mask >> j & 1) ? 0x7FFFu | (negative >> j & 1) << 15 : 0;
    }
    return {halves[0] | halves[1] << 16, halves[2] | halves[3] << 16};
}

// Returns the quad with the signs of its nonzeros inverted.
DEVICE Quad turned(Quad quad) {
    return {quad.low ^ (quad.low & 0x00010001u) << 15, quad.high ^ (quad.high & 0x00010001u) << 15};
}

// Deposits bits at the set bits of a mask of four bits, lowest first.
DEVICE u32 deposited(u32 mask, u32 bits) {
    u32 result = 0;
    for (u32 j = 0; j < 4; j++) {
        if (mask >> j & 1) {
            result |= (bits & 1) << j;
            bits >>= 1;
        }
    }
    return result;
}

// Returns a nonzero number if a trit of the quad at `at` is past `stop` and not zero.
DEVICE u32 past_end(Quad quad, u64 at, u64 stop) {
    u64 halves = quad.low | (u64)quad.high << 32;
    if (at >= stop) return halves != 0;
    return stop - at < 4 && halves >> 16 * (stop - at) != 0;
}

// Writes rows of quads in the order of the sequence; all lanes of a warp have writers in the same
// state.
template <typename Format>
struct Writer {
    typedef typename Format::Bits Bits;
    static constexpr bool WIDE = sizeof(Bits) == 4;

    const Segment* segments;
    u32 current, end;
    // The current segment.
    u64 out, first, last;
    float scale;
    u32 mode;

    DEVICE void start(const Segment* all, u32 from, u32 to) {
        segments = all;
        current = from;
        end = to;
        take();
    }

    // Advances to the segment that a row may begin in. Rows must be passed in order.
    DEVICE void seek(u64 row) {
        while (current < end && last <= row) {
            current++;
            take();
        }
    }

    // Returns how many rows of `trits` trits from here on are inside the current segment and before
    // `stop`, with aligned quads.
    DEVICE u32 whole_rows(u64 row, u32 trits, u64 stop) const {
        if (row < first || mode == MODE_VALUES) return 0;
        if (place(row) % (4 * sizeof(Bits)) != 0) return 0;
        u64 to = last < stop ? last : stop;
        return to > row ? (u32)((to - row) / trits) : 0;
    }

    // Returns the address of a trit of the current segment.
    DEVICE u64 place(u64 trit) const {
        return out + (trit - first) * sizeof(Bits);
    }

    // Returns the word that quads are masked with: the bits of the scale with its sign bit set,
    // twice if they are 16 bits. It is 0 for a scale of 0, so that there is no -0.
    DEVICE u32 keep() const { return scale == 0 ? 0 : scale_bits(fabsf(scale)); }

    // Whether quads must be taken from the table with inverted signs.
    DEVICE bool negative() const { return __float_as_uint(scale) >> 31; }

    // Writes a quad of the table that `negative` selects. (__stwb and __ldg access global memory,
    // which the compiler cannot know from the address alone.)
    DEVICE static void write(Quad quad, u64 place, u32 keep) {
        if constexpr (WIDE) {
            // Widens each half to 32 bits: its low byte three times, and its high byte on top.
            __stwb((uint4*)place, {__byte_perm(quad.low, 0, 0x1000) & keep,
                                   __byte_perm(quad.low, 0, 0x3222) & keep,
                                   __byte_perm(quad.high, 0, 0x1000) & keep,
                                   __byte_perm(quad.high, 0, 0x3222) & keep});
        } else {
            __stwb((uint2*)place, {quad.low & keep, quad.high & keep});
        }
    }

    // Adds a quad of the table whose signs are not inverted.
    DEVICE static void add(Quad quad, u64 place, float scale) {
        if ((quad.low | quad.high) == 0) return;
#pragma unroll 1
        for (u32 j = 0; j < 4; j++) {
            u32 half = (j < 2 ? quad.low : quad.high) >> 16 * (j & 1) & 0xFFFF;
            if (half == 0) continue;
            Bits* value = (Bits*)place + j;
            *value = Format::round(Format::read(*value) + (half >> 15 ? -scale : scale));
        }
    }

    // Writes or adds the quad whose first trit is `at` trit by trit, each to its own segment.
    DEVICE void apart(Quad quad, u64 at, u64 stop) const {
        u32 index = current;
#pragma unroll 1
        for (u32 j = 0; j < 4; j++) {
            u64 trit = at + j;
            if (trit >= stop) return;
            while (index < end && segments[index].first + segments[index].count <= trit) index++;
            if (index >= end || segments[index].first > trit) continue;
            Segment segment = segments[index];
            u32 half = (j < 2 ? quad.low : quad.high) >> 16 * (j & 1) & 0xFFFF;
            Bits* value = (Bits*)segment.out + (trit - segment.first);
            float step = half == 0 ? 0.0f : half >> 15 ? -segment.plus : segment.plus;
            if (segment.mode == MODE_VALUES) {
                float chosen = half >> 15 ? segment.minus : segment.plus;
                *value = Format::round(half == 0 ? segment.zero : chosen);
            } else if (segment.mode == MODE_WRITE) {
                *value = step == 0 ? 0 : Format::round(step);
            } else if (half != 0) {
                *value = Format::round(Format::read(*value) + step);
            }
        }
    }

   private:
    DEVICE void take() {
        out = first = last = 0;
        if (current >= end) return;
        Segment segment = segments[current];
        out = segment.out;
        first = segment.first;
        last = segment.first + segment.count;
        scale = segment.plus;
        mode = segment.mode;
    }

    DEVICE static u32 scale_bits(float magnitude) {
        u32 bits = Format::round(magnitude);
        return WIDE ? bits | 0x80000000u : (bits | 0x8000u) * 0x00010001u;
    }
};
