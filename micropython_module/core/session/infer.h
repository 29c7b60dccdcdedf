// Forward passes of a session.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_INFER_H
#define EDGELORA_INFER_H

#include "session/arena.h"

// Run a sample, whose frames before the last only have to reach the histories, and return its last
// frame: through all ops with the adapter in use, or through the trained ones with the training
// adapter.
source_t edgelora_infer_frames(edgelora_session_t *s, source_t sample);
source_t edgelora_train_frames(edgelora_session_t *s, source_t sample);
// Computes an op's output again, for the backward pass.
void edgelora_recompute(edgelora_session_t *s, const source_t *source, uint32_t op);

// The class that an inference which has run says, of those that the adapter in use adds too.
int32_t edgelora_decide(edgelora_session_t *s, const source_t *source);

#endif
