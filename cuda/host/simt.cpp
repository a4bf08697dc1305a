// The blocks and threads of simt.hpp.
#include "simt.hpp"

namespace simt {

static void prepare(unsigned threads) {
    warps = std::make_unique<Meeting[]>(threads / WARP);
    for (unsigned i = 0; i < threads / WARP; i++) warps[i].reset(WARP);
    block.reset(threads);
    left.assign(threads, 0);
}

#ifdef SIMT_THREADS

static void run_block(unsigned index, unsigned threads, const std::function<void()>& body) {
    std::vector<std::thread> all;
    for (unsigned i = 0; i < threads; i++) {
        all.emplace_back([=, &body] {
            thread_index.x = i;
            block_index.x = index;
            body();
        });
    }
    for (auto& thread : all) thread.join();
}

#else

constexpr size_t STACK = 64 << 10;
static const std::function<void()>* kernel;
static std::vector<std::unique_ptr<char[]>> stacks;

static void enter() {
    (*kernel)();
    done[running] = 1;
    swapcontext(&fibers[running], &scheduler);
}

static void run_block(unsigned index, unsigned threads, const std::function<void()>& body) {
    kernel = &body;
    block_index.x = index;
    fibers.resize(threads);
    done.assign(threads, 0);
    while (stacks.size() < threads) stacks.push_back(std::make_unique<char[]>(STACK));
    for (unsigned i = 0; i < threads; i++) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks[i].get();
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = nullptr;
        makecontext(&fibers[i], enter, 0);
    }
    for (unsigned alive = threads; alive > 0;) {
        alive = 0;
        for (unsigned i = 0; i < threads; i++) {
            if (done[i]) continue;
            alive++;
            running = i;
            thread_index.x = i;
            swapcontext(&scheduler, &fibers[i]);
        }
    }
}

#endif

void launch(unsigned blocks, unsigned threads, unsigned shared_bytes,
            const std::function<void()>& body) {
    thread_count = {threads, 1, 1};
    block_count = {blocks, 1, 1};
    // Exactly as many bytes as requested, so that the address sanitizer finds accesses past the
    // end.
    std::unique_ptr<unsigned char[]> memory(new unsigned char[shared_bytes ? shared_bytes : 1]);
    dynamic_memory = memory.get();
    for (unsigned i = 0; i < blocks; i++) {
        prepare(threads);
        run_block(i, threads, body);
    }
}

}  // namespace simt
