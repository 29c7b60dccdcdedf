// Forward passes of a session.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_INFER_H
#define EDGELORA_INFER_H

#include "session/arena.h"

// The frames of a sample, given as its first one.
sample_t edgelora_sample(const edgelora_session_t *s, source_t first);
// May a call read a sample and write an output? size: of the output, 0: there is none.
bool edgelora_is_apart(
    const edgelora_session_t *s, const sample_t *sample, const void *out, uint32_t size);
// Runs a sample through all ops with the adapter in use; frames before the last run only up to the
// last history. Returns the last frame.
source_t edgelora_infer_frames(edgelora_session_t *s, const sample_t *sample);
// Runs a sample through the trained ops with the training adapter, each op on the frames that the
// loss depends on.
void edgelora_train_frames(edgelora_session_t *s, const sample_t *sample);
// After the backward pass of the frame behind it, brings the buffers that are read backward to what
// they are after the forward pass of the frame that is `age` frames before the last.
void edgelora_step_back(edgelora_session_t *s, const sample_t *sample, uint32_t age);
// Recomputes an op's output for the backward pass.
void edgelora_recompute(edgelora_session_t *s, const source_t *source, uint32_t op);

// The class of the inference that has run, which may be one that the adapter in use adds.
int32_t edgelora_decide(edgelora_session_t *s, const source_t *source);

#endif
