// Finished prints a line for each backup that has ended, as it ends. The server remembers where it stopped.
//
//	go run . nats://localhost:4222 my-name
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"
)

// Envelope is one decision of the log with what it led to; more fields are in docs/EVENTS.md.
type Envelope struct {
	At     string  `msgpack:"at"`
	NS     string  `msgpack:"ns"`
	DC     string  `msgpack:"dc"`
	Events []Event `msgpack:"events"`
}

// Event is a fact; its data is read by its type.
type Event struct {
	Type string             `msgpack:"type"`
	Data msgpack.RawMessage `msgpack:"data"`
}

// Ended is the data of backup.completed and backup.failed.
type Ended struct {
	Job     string `msgpack:"job"`
	Message string `msgpack:"message"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: finished NATS-URL NAME")
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url, name string) error {
	connection, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	// Only what the process "backup" decided: the server leaves out the rest.
	consumer, err := js.CreateOrUpdateConsumer(ctx, "STHENO", jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: "stheno.v1.*.*.*.backup",
		AckPolicy:     jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		message, err := messages.Next()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := tell(message.Data()); err != nil {
			return fmt.Errorf("%s: %w", message.Subject(), err)
		}
		// Behind what it says: after a crash a line may come twice, and none is lost.
		if err := message.Ack(); err != nil {
			return err
		}
	}
}

func tell(data []byte) error {
	var envelope Envelope
	if err := msgpack.Unmarshal(data, &envelope); err != nil {
		return err
	}
	for _, event := range envelope.Events {
		how, ok := map[string]string{"backup.completed": "complete", "backup.failed": "failed"}[event.Type]
		if !ok {
			continue
		}
		var ended Ended
		if err := msgpack.Unmarshal(event.Data, &ended); err != nil {
			return err
		}
		fmt.Printf("%s %s/%s job %s %s: %s\n", envelope.At, envelope.NS, envelope.DC, ended.Job, how, ended.Message)
	}
	return nil
}
