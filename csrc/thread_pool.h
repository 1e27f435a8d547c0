// Threads that run one function together and meet at barriers inside it. Waiting spins first, because the next stage of a
// token is microseconds away, and parks when nothing comes.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/kernels.h"

namespace madang {

class ThreadPool {
public:
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return n_threads_; }

    // Runs job(thread) on every thread, the caller being thread 0; returns when all are done. Jobs must not throw.
    void run(const std::function<void(int)>& job);

    // Inside a job: waits for all threads of the pool.
    void barrier() { barrier([] {}); }

    // The same; the last thread to arrive runs `last` before any goes on. For work too small to share.
    template <class Last>
    void barrier(Last last) {
        const unsigned stage = stage_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < n_threads_) return wait_for_stage_after(stage);
        last();
        release(stage);
    }

    // Inside a job: hands out [0, n) in pieces until none is left. Every thread must call it with the same arguments, and
    // a barrier must lie between two calls.
    template <class Work>
    void share(int n, int piece, Work work) {
        std::atomic<int>& next = next_[stage_.load(std::memory_order_relaxed) % kStages];
        for (int begin; (begin = next.fetch_add(piece, std::memory_order_relaxed)) < n;)
            work(Range{begin, begin + piece < n ? begin + piece : n});
    }

private:
    static constexpr int kStages = 4;
    void work(int thread);
    void wait_for_stage_after(unsigned stage);
    void release(unsigned stage);

    const int n_threads_;
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    const std::function<void(int)>* job_ = nullptr;
    std::atomic<unsigned> generation_{0};
    std::atomic<bool> stop_{false};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> stage_{0};
    alignas(64) std::atomic<int> next_[kStages] = {};
};

}  // namespace madang
