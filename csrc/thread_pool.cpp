#include "thread_pool.h"

#if defined(_MSC_VER)
#include <intrin.h>
#elif defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace madang {

namespace {

constexpr int kSpins = 500;  // a few microseconds: longer spinning starves the others when something else wants the cores

void pause() {
#if defined(_MSC_VER) && defined(MADANG_X86)
    _mm_pause();
#elif defined(MADANG_X86)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins, then parks, until the value is no longer `old`.
void wait_for_change(const std::atomic<unsigned>& value, unsigned old) {
    for (int i = 0; i < kSpins; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
    }
    value.wait(old, std::memory_order_acquire);
}

// Where threads are as many as the processors that they may use, each keeps to its own; the caller of run() is free to
// take the one that is left. Otherwise a short visitor, as an event loop, makes the kernel put two of them on one
// processor, and they meet at barriers there for milliseconds (docs/decisions/0003).
void stay_on_own_processor(int thread, int n_threads) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) != n_threads) return;
    int processor = -1;
    for (int left = thread + 1; left > 0; left -= CPU_ISSET(processor, &allowed)) ++processor;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(processor, &own);
    pthread_setaffinity_np(pthread_self(), sizeof own, &own);
#endif
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads < 1 ? 1 : n_threads) {
    for (int i = 1; i < n_threads_; ++i) threads_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
    stop_ = true;
    generation_.fetch_add(1);
    generation_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::function<void(int)>& job) {
    const std::lock_guard<std::mutex> one_job_at_a_time(mutex_);
    job_ = &job;
    generation_.fetch_add(1);
    generation_.notify_all();
    job(0);
    barrier();
}

void ThreadPool::work(int thread) {
    thread_ = thread;
    stay_on_own_processor(thread, n_threads_);
    for (unsigned seen = 0;;) {
        wait_for_change(generation_, seen);
        seen = generation_.load(std::memory_order_acquire);
        if (stop_) return;
        (*job_)(thread);
        barrier();
    }
}

void ThreadPool::wait_for_stage_after(unsigned stage) { wait_for_change(stage_, stage); }

void ThreadPool::release(unsigned stage) {
    arrived_.store(0, std::memory_order_relaxed);
    next_[(stage + 2) % kStages].store(0, std::memory_order_relaxed);  // nobody uses it before the next barrier
    // Sequentially consistent: notify_all looks whether anyone is parked, and must not do so before the store is visible.
    // With a release store, libstdc++ 12 lost wake-ups.
    stage_.store(stage + 1);
    stage_.notify_all();
}

}  // namespace madang
