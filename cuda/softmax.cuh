// The law of a draw from a softmax, in integers (rust/core/src/softmax.rs): a token at distance d
// from the greatest logit is proposed in proportion to 2^-floor(d), and accepted with probability
// 2^-frac(d). Sums are exact, so any order gives the same token.
#pragma once
#include "types.cuh"

constexpr u32 POINT = 25;  // number of bits after the point of a distance
constexpr u32 TOP = 40;    // binary logarithm of the envelope of the greatest logit

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
    const float farthest = (float)((TOP + 1) << POINT);
    return (u32)(int)(product < farthest ? product : farthest);
}

// 2^(40 - floor(d)), or 0 from 41 on.
DEVICE u64 envelope(u32 distance) { return (1ull << TOP) >> (distance >> POINT); }

// 2^(32 - frac(d)): a proposal is accepted if 32 random bits are below.
DEVICE u64 acceptance(u32 distance) {
    u32 rest = (0 - distance) & ((1u << POINT) - 1);
    if (rest == 0) return 1ull << 32;
    u32 entry = EXP2_TABLE[rest >> 20], r = rest & 0xFFFFF;
    // Minimax of 2^r - 1 ~ r (C1 + C2 r), times 2^31. All products fit in 64 bits, and all factors
    // in 32.
    u32 slope = 0x58B84744u + (u32)((u64)0x1F0F3E4Cu * r >> 25);
    u32 growth = (u32)((u64)slope * r >> 24);
    return entry + (u64)__umulhi(entry, growth);
}
