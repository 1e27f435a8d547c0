// Threads that run one function together and meet at barriers inside it. Waiting spins first, because the next stage of a
// token is microseconds away, and parks when nothing comes.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
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
    void barrier(Last last) { barrier(last, [] { return false; }); }

    // The same; threads call `meanwhile` again and again while they wait, as long as it returns true. It must be short.
    template <class Last, class Meanwhile>
    void barrier(Last last, Meanwhile meanwhile) {
        const unsigned stage = stage_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < n_threads_) {
            while (stage_.load(std::memory_order_acquire) == stage && meanwhile()) {}
            return wait_for_stage_after(stage);
        }
        meanwhile();
        last();
        release(stage);
    }

    // Inside a job: hands out [0, n) in pieces until none is left; the first is first_piece(), the rest go to whoever asks.
    // Every thread must call it with the same arguments, and a barrier must lie between two calls.
    template <class Work>
    void share(int n, int piece, Work work) {
        std::atomic<int>& next = next_[stage_.load(std::memory_order_relaxed) % kStages];
        for (Range own = first_piece(n, piece); own.begin < own.end; own = piece_at(next.fetch_add(1, std::memory_order_relaxed), n, piece))
            work(own);
    }

    // What this thread will begin with, so that it can fetch it beforehand.
    Range first_piece(int n, int piece) const { return piece_at(thread_ - n_threads_, n, piece); }

private:
    static constexpr int kStages = 4;
    // Pieces beyond everybody's first are numbered from 0.
    Range piece_at(int number, int n, int piece) const {
        const int64_t begin = int64_t(number + n_threads_) * piece;
        return {int(std::min<int64_t>(begin, n)), int(std::min<int64_t>(begin + piece, n))};
    }
    void work(int thread);
    void wait_for_stage_after(unsigned stage);
    void release(unsigned stage);

    inline static thread_local int thread_ = 0;  // of whatever pool; others, and the caller of run(), are 0
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
