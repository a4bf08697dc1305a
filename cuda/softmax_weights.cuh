// Softmax weights in integers (rust/core/src/replace/exp2.rs): floor(2^40 2^-d) for the distance d
// of a logit from the greatest one. Sums are exact, so any order gives the same token.
#pragma once
#include "types.cuh"

constexpr u32 POINT = 25;  // number of bits after the point of a distance

// 2^31 2^(i / 32), rounded to nearest.
__constant__ const u32 EXP2_TABLE[32] = {
    0x80000000, 0x82CD8699, 0x85AAC368, 0x88980E81, 0x8B95C1E4, 0x8EA4398B, 0x91C3D374, 0x94F4EFA9,
    0x9837F052, 0x9B8D39BA, 0x9EF53261, 0xA2704303, 0xA5FED6AA, 0xA9A15AB5, 0xAD583EEA, 0xB123F582,
    0xB504F334, 0xB8FBAF47, 0xBD08A39F, 0xC12C4CCA, 0xC5672A11, 0xC9B9BD86, 0xCE248C15, 0xD2A81D92,
    0xD744FCCB, 0xDBFBB798, 0xE0CCDEEC, 0xE5B906E7, 0xEAC0C6E8, 0xEFE4B99C, 0xF5257D15, 0xFA83B2DB,
};

// One float32 subtraction and one multiplication, each rounded (build with --fmad=false, which
// disables fused multiply-add), and after that only integers.
DEVICE u32 distance(float max, float logit, float scale) {
    float product = (max - logit) * scale;
    const float farthest = (float)(63u << POINT);
    return (u32)(int)(product < farthest ? product : farthest);
}

// `table` is EXP2_TABLE in shared memory: constant memory serves one address at a time.
DEVICE u64 weight(u32 distance, const u32* table) {
    u32 shift = (distance + (1u << POINT) - 1) >> POINT;
    u32 fraction = (shift << POINT) - distance;
    u32 entry = table[fraction >> 20 & 31];
    u32 r = fraction & 0xFFFFF;
    // Minimax of 2^r - 1 ~ r (C1 + C2 r), times 2^31. All products fit in 64 bits, and all factors
    // in 32.
    u32 slope = 0x58B84744u + (u32)((u64)0x1F0F3E4Cu * r >> 25);
    u32 growth = (u32)((u64)slope * r >> 24);
    u64 mantissa = entry + (u64)__umulhi(entry, growth);
    return (mantissa << 9) >> shift;
}
