// Philox4x32-10 (Salmon et al., SC 2011), and the keys of draws (rust/core/src/rng.rs).
#pragma once
#include "types.cuh"

struct Words {
    u32 a, b, c, d;
};

// Published vector: counter and key 0 give 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
DEVICE Words philox4x32_10(Words counter, u32 k0, u32 k1) {
    for (u32 round = 0; round < 10; round++) {
        u64 p0 = 0xD2511F53ull * counter.a, p1 = 0xCD9E8D57ull * counter.c;
        counter = {(u32)(p1 >> 32) ^ counter.b ^ k0, (u32)p1, (u32)(p0 >> 32) ^ counter.d ^ k1,
                   (u32)p0};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return counter;
}

constexpr u32 STREAM_REPLACE = 3;

// The key of all draws of a seed and an epoch.
DEVICE Words draw_key(u64 seed, u64 epoch) {
    return philox4x32_10({(u32)epoch, (u32)(epoch >> 32), STREAM_REPLACE, 0}, (u32)seed,
                         (u32)(seed >> 32));
}

// The random words of a proposal for (sample id, position).
DEVICE Words draw_words(Words key, u64 sample_id, u32 position, u32 proposal) {
    return philox4x32_10({proposal, position, (u32)sample_id, (u32)(sample_id >> 32)}, key.a, key.b);
}
