// Personalizes a network on the board: trains an adapter on the owner's samples, then uses it.
// SPDX-License-Identifier: MIT

#include <edgelora.h>

#include "model.h" // a base and samples, written by `edgelora export`

const int EPOCHS = 16;
const uint32_t SEED = 1;
const uint16_t LEARNING_RATE = 6000;

alignas(8) uint8_t arena[MODEL_ARENA];
alignas(8) uint8_t adapter[MODEL_ADAPTER];
edgelora_session_t *session;

// Stops with the error's text, if there is one.
int32_t checked(int32_t status) {
    if (status < 0) {
        Serial.println(edgelora_status_text((edgelora_status_t)status));
        for (;;) {
            delay(1000);
        }
    }
    return status;
}

// Prints how many held-out samples are classified right.
void report(const char *name) {
    int right = 0;
    for (int i = 0; i < TEST_COUNT; ++i) {
        right += checked(edgelora_infer_sample(session, test_samples[i])) == test_labels[i];
    }
    Serial.print(name);
    Serial.print(": ");
    Serial.print(right);
    Serial.print(" of ");
    Serial.println((int)TEST_COUNT);
}

void train() {
    checked(edgelora_begin(session, SEED));
    for (int epoch = 0; epoch < EPOCHS; ++epoch) {
        int32_t loss, sum = 0;
        for (int i = 0; i < TRAIN_COUNT; ++i) {
            uint32_t at = edgelora_order(SEED, epoch, TRAIN_COUNT, i);
            const int8_t *x = train_samples[at];
            checked(edgelora_train(session, x, train_labels[at], NULL, LEARNING_RATE, &loss));
            sum += loss;
        }
        Serial.print("loss ");
        Serial.println(sum / TRAIN_COUNT / 4096.0, 3); // nats
    }
    checked(edgelora_flush(session, LEARNING_RATE));
}

void setup() {
    Serial.begin(115200);
    checked(edgelora_model_check(model, MODEL_SIZE));
    checked(edgelora_init(arena, MODEL_ARENA, model, &model_config));
    session = edgelora_session(arena, MODEL_ARENA);
    report("base");
    train();
    // From here on `adapter` is what a file or EEPROM would keep.
    int32_t size = checked(edgelora_save(session, false, adapter, MODEL_ADAPTER));
    checked(edgelora_use(session, adapter, size));
    report("adapter");
}

// Classifies a window a second. Of a sensor's int16 counts,
// edgelora_quantize(model, counts, SAMPLE_SIZE, x) makes an input x, int8 [SAMPLE_SIZE].
void loop() {
    static int next = 0;
    Serial.println(model_labels[checked(edgelora_infer(session, test_samples[next]))]);
    next = (next + 1) % TEST_COUNT;
    delay(1000);
}
