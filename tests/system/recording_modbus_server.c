/* A Modbus TCP server made with libmodbus, whose registers are fed while it runs.
 *
 *   recording_modbus_server PORT
 *
 * A line of hexadecimal words on standard input becomes the holding registers from 0 on, in one piece. It listens from
 * the first line on, so that nobody reads registers that have no value yet. When a client reads the first time after a
 * line, "read CONNECTION" is printed.
 */
#include <modbus.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

enum { REGISTERS = 120, CONNECTIONS = 64 };

static void take_line(modbus_mapping_t *map, char *line)
{
    char *rest = line;
    for (int i = 0; i < REGISTERS; i++) {
        char *word = rest;
        unsigned long value = strtoul(word, &rest, 16);
        if (rest == word)
            return;
        map->tab_registers[i] = value;
    }
}

/* One line, unbuffered: what stdio had read ahead, select() would not see. 0 at the end of the input. */
static int read_line(char *line, int size)
{
    int length = 0;
    while (length < size - 1 && read(STDIN_FILENO, line + length, 1) == 1)
        if (line[length++] == '\n') {
            line[length] = 0;
            return 1;
        }
    return 0;
}

/* Answer one request; 0 when the client is gone. */
static int answer(modbus_t *bus, modbus_mapping_t *map, int connection)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_set_socket(bus, connection);
    int length = modbus_receive(bus, query);
    if (length > 0)
        modbus_reply(bus, query, length, map);
    return length >= 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    modbus_t *bus = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_mapping_t *map = modbus_mapping_new(0, 0, REGISTERS, 0);
    char line[REGISTERS * 5 + 2];
    int told[CONNECTIONS] = {0};
    if (bus == NULL || map == NULL || !read_line(line, sizeof line))
        return 3;
    take_line(map, line);
    int listener = modbus_tcp_listen(bus, 8);
    if (listener == -1)
        return 4;
    fd_set open;
    FD_ZERO(&open);
    FD_SET(STDIN_FILENO, &open);
    FD_SET(listener, &open);
    for (;;) {
        fd_set ready = open;
        if (select(CONNECTIONS, &ready, NULL, NULL, NULL) == -1)
            return 5;
        if (FD_ISSET(STDIN_FILENO, &ready)) {
            if (!read_line(line, sizeof line))
                return 0;
            take_line(map, line);
            for (int i = 0; i < CONNECTIONS; i++)
                told[i] = 0;
            continue; /* what was ready then is asked again, and sees the new registers */
        }
        for (int i = 1; i < CONNECTIONS; i++) {
            if (!FD_ISSET(i, &ready))
                continue;
            if (i == listener) {
                int connection = modbus_tcp_accept(bus, &listener);
                if (connection >= 0 && connection < CONNECTIONS)
                    FD_SET(connection, &open);
            } else if (!answer(bus, map, i)) {
                FD_CLR(i, &open);
                close(i);
            } else if (!told[i]) {
                told[i] = 1;
                printf("read %d\n", i);
                fflush(stdout);
            }
        }
    }
}
