// Forward passes of a session.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_INFER_H
#define EDGELORA_INFER_H

#include "session/arena.h"

// Run a sample through all ops with the adapter in use, or through the trained ops with the
// training adapter; frames before the last run only up to the last history. Return the last frame.
source_t edgelora_infer_frames(edgelora_session_t *s, source_t sample);
source_t edgelora_train_frames(edgelora_session_t *s, source_t sample);
// Recomputes an op's output for the backward pass.
void edgelora_recompute(edgelora_session_t *s, const source_t *source, uint32_t op);

// The class of the inference that has run, which may be one that the adapter in use adds.
int32_t edgelora_decide(edgelora_session_t *s, const source_t *source);

#endif
