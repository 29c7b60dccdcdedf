// The part of Arduino's interface that the library's sketches use, in place of a board's.
// SPDX-License-Identifier: MIT

#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

void setup();
void loop();
void delay(unsigned long ms); // ends the program: a board would wait

class SerialPort {
  public:
    void begin(unsigned long) {
    }
    void print(const char *text);
    void print(int number);
    void print(long number) {
        print((int)number);
    }
    void print(double number, int digits = 2);
    template <typename... Value> void println(Value... value) {
        print(value...);
        print("\n");
    }
};
extern SerialPort Serial;

#endif
