// Reminds patients of their visits, and tells what becomes of each reminder. ../README.md says what goes in and out.
//
//	go generate && go run .
//
// generates the client into gen/ with protoc, protoc-gen-go and protoc-gen-go-grpc.
package main

//go:generate sh generate.sh

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/local"
	_ "google.golang.org/grpc/health" // For the health checks that the service config asks for.
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "example.com/remind/gen/heedwell/v1"
)

// Deadlines, and what the channel repeats by itself. That bridges a moment; the loops below bridge everything longer.
//
//go:embed service_config.json
var serviceConfig string

// A stream says at least every so often that it is alive. One that misses three is dead, whatever TCP thinks of it.
const heartbeat = 5 * time.Second

// So many visits are sent side by side: one that has to wait holds up no other.
const sideBySide = 16

// A token that is refused for so long is not going to be renewed.
const tokenLimit = 5 * time.Minute

var practice = os.Getenv("HEEDWELL_PRACTICE")

type visit struct {
	Appointment, Patient string
	Start                time.Time
	Send                 *time.Time
}

// parse reads one line. A time without its zone is an error of the decoder.
func parse(line []byte) (v visit, err error) {
	if err = json.Unmarshal(line, &v); err == nil && (v.Appointment == "" || v.Patient == "" || v.Start.IsZero()) {
		err = errors.New("an appointment, a patient and a start are needed")
	}
	return v, err
}

type event map[string]interface{}

func say(e event) {
	line, _ := json.Marshal(e)
	// One call of Write for each line: two goroutines speak.
	os.Stdout.Write(append(line, '\n'))
}

// bearer reads the token for each call: whoever renews it writes it to the file before the old one ends.
func bearer(ctx context.Context) context.Context {
	token, err := os.ReadFile(os.Getenv("HEEDWELL_TOKEN_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token)))
}

// passes says whether the same call may do after a while. Every call may be repeated: request_id sees to it that it
// happens once.
func passes(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal:
		return true
	case codes.Unauthenticated: // By then there may be a new token.
		return true
	}
	return false
}

// pauses are those between the tries of one call.
type pauses struct {
	failures int
	// When the token was first refused, of refusals in a row.
	refused time.Time
}

// wait waits longer each time, never less than the server asks for, and not as long as everybody else.
func (p *pauses) wait(err error) {
	if status.Code(err) != codes.Unauthenticated {
		p.refused = time.Time{}
	} else if p.refused.IsZero() {
		p.refused = time.Now()
	} else if time.Since(p.refused) > tokenLimit {
		log.Fatalf("the token has been refused for %v: %v", tokenLimit, err)
	}
	say(event{"waiting": codeName(err)})
	most := 29 * time.Second
	if p.failures < 5 {
		most = time.Second << p.failures
	}
	p.failures++
	wait := time.Second + time.Duration(rand.Int63n(int64(most)))
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			asked := time.Duration(info.RetryDelay.GetSeconds())*time.Second + time.Duration(info.RetryDelay.GetNanos())
			if asked > wait {
				wait = asked
			}
		}
	}
	time.Sleep(wait)
}

// reason is one of those in errors.proto.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// violations are the fields of a request that were wrong, and why.
func violations(err error) []event {
	found := []event{}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, each := range bad.FieldViolations {
				found = append(found, event{"field": each.Field, "description": each.Description})
			}
		}
	}
	return found
}

// codeName is the code as the gRPC specification writes it: DEADLINE_EXCEEDED.
func codeName(err error) string {
	var name strings.Builder
	for i, letter := range status.Code(err).String() {
		if i > 0 && 'A' <= letter && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

// remind sends one reminder, however long the server may be away.
func remind(notify pb.NotifyServiceClient, v visit) {
	request := &pb.SendNotificationRequest{
		PracticeId: practice,
		// Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice. A
		// visit that was moved is another one.
		RequestId: fmt.Sprintf("reminder:%s:%d", v.Appointment, v.Start.Unix()),
		Notification: &pb.NotificationInput{
			PatientId: v.Patient,
			Payload: &pb.NotificationInput_AppointmentReminder{
				AppointmentReminder: &pb.AppointmentDetails{StartTime: timestamppb.New(v.Start)},
			},
			Reference: v.Appointment,
		},
	}
	if v.Send != nil {
		request.Notification.ScheduleTime = timestamppb.New(*v.Send)
	}
	for between := new(pauses); ; {
		answer, err := notify.SendNotification(bearer(context.Background()), request)
		if err == nil {
			say(event{"accepted": request.RequestId, "replayed": answer.Replayed})
			return
		}
		if !passes(err) {
			say(event{"refused": request.RequestId, "reason": reason(err), "violations": violations(err)})
			return
		}
		between.wait(err)
	}
}

// deliveries are all deliveries of the practice, as of the last change.
type deliveries struct {
	notify    pb.NotifyServiceClient
	revisions map[string]int64
	// Where to go on; empty when only a list tells.
	cursor string
}

// follow keeps up, across the end of every stream. It returns only what no other try can mend.
func (d *deliveries) follow() error {
	for between := new(pauses); ; {
		before := d.cursor
		err := d.list()
		if err == nil {
			err = d.watch()
		}
		if d.cursor != before {
			between = new(pauses)
		}
		switch {
		case err == io.EOF:
			// Ended as planned. A server that stops ends all its streams, so not everybody comes back at once.
			time.Sleep(time.Duration(rand.Int63n(int64(time.Second))))
		case status.Code(err) == codes.OutOfRange:
			// The changes after the cursor are gone: it is a week old, or the database came back from a backup.
			say(event{"gap": true})
			d.cursor = ""
		case passes(err):
			between.wait(err)
		default:
			return err
		}
	}
}

// list takes everything in, unless there is a cursor, and leaves that of before the first page was read.
func (d *deliveries) list() error {
	request := &pb.ListDeliveriesRequest{PracticeId: practice, PageSize: 500}
	cursor := d.cursor
	// A page may be short and still not be the last.
	for more := cursor == ""; more; more = request.PageToken != "" {
		page, err := d.notify.ListDeliveries(bearer(context.Background()), request)
		if err != nil {
			return err
		}
		if cursor == "" {
			cursor = page.WatchCursor
		}
		for _, delivery := range page.Deliveries {
			d.apply(delivery)
		}
		request.PageToken = page.NextPageToken
	}
	d.cursor = cursor
	return nil
}

// watch takes in one stream, to its end.
func (d *deliveries) watch() error {
	ctx, cancel := context.WithCancel(bearer(context.Background()))
	defer cancel()
	stream, err := d.notify.WatchDeliveries(ctx, &pb.WatchDeliveriesRequest{
		PracticeId:        practice,
		Start:             &pb.WatchDeliveriesRequest_Cursor{Cursor: d.cursor},
		HeartbeatInterval: durationpb.New(heartbeat),
	})
	if err != nil {
		return err
	}
	watchdog := time.AfterFunc(3*heartbeat, cancel)
	defer watchdog.Stop()
	for {
		step, err := stream.Recv()
		if status.Code(err) == codes.Canceled {
			return status.Error(codes.Unavailable, "no heartbeat")
		}
		if err != nil {
			return err
		}
		watchdog.Reset(3 * heartbeat)
		for _, change := range step.Changes {
			d.apply(change.Delivery)
		}
		// Not before its changes are applied, else a crash in between loses them. Kept on disk, both go there together.
		d.cursor = step.Cursor
	}
}

func (d *deliveries) apply(delivery *pb.Delivery) {
	// Lists and watches overlap, and a watch may repeat itself.
	if delivery.Revision <= d.revisions[delivery.DeliveryId] {
		return
	}
	d.revisions[delivery.DeliveryId] = delivery.Revision
	// A newer server may have states that this program was not built with.
	state := "OTHER"
	if name, known := pb.DeliveryState_name[int32(delivery.State)]; known {
		state = strings.TrimPrefix(name, "DELIVERY_STATE_")
	}
	say(event{"delivery": delivery.DeliveryId, "revision": delivery.Revision, "state": state})
}

func main() {
	address := os.Getenv("HEEDWELL_ADDR")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	// These credentials are for this machine alone. To another one: credentials.NewTLS.
	connection, err := grpc.Dial(address,
		grpc.WithTransportCredentials(local.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		log.Fatal(err)
	}
	notify := pb.NewNotifyServiceClient(connection)
	go func() {
		known := &deliveries{notify: notify, revisions: map[string]int64{}}
		log.Fatal(known.follow())
	}()
	var sending sync.WaitGroup
	free := make(chan struct{}, sideBySide)
	lines := bufio.NewScanner(os.Stdin)
	for number := 1; lines.Scan(); number++ {
		v, err := parse(lines.Bytes())
		if err != nil {
			// One bad line is no reason to leave the others.
			wrong := event{"field": "line", "description": err.Error()}
			say(event{"refused": fmt.Sprintf("line %d", number), "reason": "NOT_A_VISIT", "violations": []event{wrong}})
			continue
		}
		free <- struct{}{}
		sending.Add(1)
		go func() {
			remind(notify, v)
			<-free
			sending.Done()
		}()
	}
	sending.Wait()
	// Such as a line that is too long: what comes after it was not read.
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
