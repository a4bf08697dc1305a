// Header and index of a packed block (docs/expert-format.md, section 4). The bytes are
// untrusted, so every field is checked before it is used. The checksums are not checked here: the
// code that loads a file checks them.
#pragma once
#include "flags.cuh"

// A whole packed block in device memory: header, index, payload, guard.
struct Block {
    u64 bytes;  // address, a multiple of 16
    u64 len;
};

// Number of zero bytes at the end of the block, which decoders may read past the end of a stream.
constexpr u32 GUARD = 256;
constexpr u32 HEADER = 32;
constexpr u32 ROW = 16;
// The most bytes of a stream in the worst class: 64 states, and one word for each state in each of 2^14
// rows. (A bitmask has at most 2^18.)
constexpr u32 LONGEST = 256 + 128 * (1u << 14);
constexpr u32 T4 = 0, BITMASK = 1, ZERO = 2;

struct Stream {
    const u8* bytes;
    u64 first;  // its first trit in the block
    u32 len;    // in bytes
    u32 trits;
    u32 nonzeros;
    u32 coding;
    u32 density_class;
};

// Finds a stream. A number past the streams of the block gives a stream of 0 trits and no error, because
// the host may launch for more streams than there are.
DEVICE u32 read_stream(Block block, u32 number, Stream& stream) {
    stream.trits = 0;
    if (block.len < HEADER + GUARD || block.bytes % 16 != 0) return FLAG_HEADER;
    const u32* header = (const u32*)block.bytes;
    u32 log_steps = header[1] >> 8 & 0xFF;
    u64 count = header[2] | (u64)header[3] << 32, total = header[4] | (u64)header[5] << 32;
    u32 streams = header[6];
    // "MFT4", version 1, bytes 6 and 7 zero.
    if (header[0] != 0x3454464Du || (header[1] & 0xFFFF00FFu) != 1) return FLAG_HEADER;
    if (log_steps < 9 || log_steps > 14 || count > 1ull << 40 || total != block.len) {
        return FLAG_HEADER;
    }
    u32 log_trits = 6 + log_steps;
    u64 head = HEADER + (u64)ROW * streams;
    if ((count + (1ull << log_trits) - 1) >> log_trits != streams || head + GUARD > total) {
        return FLAG_HEADER;
    }
    if (number >= streams) return FLAG_OK;
    const u32* row = header + 8 + 4 * number;
    u64 payload = total - GUARD - head, from = 16ull * row[0];
    u64 to = number + 1 < streams ? 16ull * row[4] : payload;
    u32 coding = row[2] & 0xFF, density_class = row[2] >> 8 & 0xFF;
    if (number == 0 && from != 0) return FLAG_INDEX;
    if (from > to || to > payload || to - from > LONGEST || row[2] >> 16 != 0) return FLAG_INDEX;
    if (coding > ZERO || (coding != T4 && density_class != 0)) return FLAG_INDEX;
    if ((from == to) != (coding == ZERO) || (row[1] == 0) != (coding == ZERO)) return FLAG_INDEX;
    stream.bytes = (const u8*)block.bytes + head + from;
    stream.first = (u64)number << log_trits;
    stream.len = (u32)(to - from);
    u64 rest = count - stream.first;
    stream.trits = rest < 1ull << log_trits ? (u32)rest : 1u << log_trits;
    stream.nonzeros = row[1];
    stream.coding = coding;
    stream.density_class = density_class;
    return FLAG_OK;
}
