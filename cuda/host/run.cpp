// Runs the launches that a file describes, and writes the contents of their buffers afterwards.
//
// All numbers of the input are u64, little-endian. It holds the number of launches and then, for
// each launch: the name of the kernel (length and bytes), the blocks, the threads, and the bytes of
// shared memory; the buffers (their number, and the size and bytes of each); the addresses inside
// buffers (their number, and for each the buffer, the offset, the buffer it points to, and the
// offset there); and the arguments (their number, and for each 0 and a value, or 1 + a buffer and
// an offset). The output holds the buffers of each launch, one after the other.
#include <map>
#include <string>
#include <tuple>

#include "simt.hpp"

#include "../replaced_token_labels.cu"
#include "../sample_replacements.cu"
#include "../unpack.cu"
#include "../apply_lora.cu"

struct Arguments {
    std::vector<u64> values;
    size_t next = 0;
    template <typename T>
    T take() {
        T value;
        u64 bits = values.at(next++);
        memcpy(&value, &bits, sizeof(T));
        return value;
    }
};

// Binds a kernel to its arguments of any types.
template <typename... T>
std::function<void()> bind(void (*kernel)(T...), Arguments arguments) {
    std::tuple<T...> all{arguments.take<T>()...};
    return [=] { std::apply(kernel, all); };
}

#define KERNEL(name) {#name, [](Arguments a) { return bind(name, std::move(a)); }}
static const std::map<std::string, std::function<std::function<void()>(Arguments)>> KERNELS = {
    KERNEL(unpack_f32),
    KERNEL(unpack_f16),
    KERNEL(unpack_bf16),
    KERNEL(unpack_flat_f32),
    KERNEL(unpack_flat_f16),
    KERNEL(unpack_flat_bf16),
    KERNEL(sample_replacements_f32),
    KERNEL(sample_replacements_f16),
    KERNEL(sample_replacements_bf16),
    KERNEL(replaced_token_labels_fill),
    KERNEL(replaced_token_labels_scatter),
    KERNEL(apply_lora_f32),
    KERNEL(apply_lora_f16),
    KERNEL(apply_lora_bf16),
};

static u64 number(FILE* file) {
    u64 value;
    if (fread(&value, 8, 1, file) != 1) {
        fprintf(stderr, "the file ends too early\n");
        exit(2);
    }
    return value;
}

static void bytes(FILE* file, void* to, size_t size) {
    if (size != 0 && fread(to, 1, size, file) != size) {
        fprintf(stderr, "the file ends too early\n");
        exit(2);
    }
}

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: run LAUNCHES RESULTS\n");
        return 2;
    }
    FILE* in = fopen(argv[1], "rb");
    FILE* out = fopen(argv[2], "wb");
    if (!in || !out) {
        perror("run");
        return 2;
    }
    for (u64 launches = number(in); launches > 0; launches--) {
        std::string name(number(in), ' ');
        bytes(in, name.data(), name.size());
        u64 blocks = number(in), threads = number(in), shared = number(in);
        // Buffers have their exact sizes, so that the address sanitizer finds accesses past the
        // end.
        std::vector<std::pair<u8*, u64>> buffers(number(in));
        for (auto& [data, size] : buffers) {
            size = number(in);
            data = (u8*)malloc(size ? size : 1);
            bytes(in, data, size);
        }
        for (u64 n = number(in); n > 0; n--) {
            u64 buffer = number(in), offset = number(in), target = number(in), there = number(in);
            u64 address = (u64)buffers.at(target).first + there;
            memcpy(buffers.at(buffer).first + offset, &address, 8);
        }
        Arguments arguments;
        for (u64 n = number(in); n > 0; n--) {
            u64 kind = number(in), value = number(in);
            arguments.values.push_back(kind == 0 ? value : (u64)buffers.at(kind - 1).first + value);
        }
        simt::launch((unsigned)blocks, (unsigned)threads, (unsigned)shared,
                     KERNELS.at(name)(arguments));
        for (auto& [data, size] : buffers) {
            if (size != 0 && fwrite(data, 1, size, out) != size) {
                perror("run");
                return 2;
            }
            free(data);
        }
    }
    return fclose(out) == 0 ? 0 : 2;
}
