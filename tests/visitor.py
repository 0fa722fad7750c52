"""A visitor who speaks the server's protocol without a browser, and sends what no browser would."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote
from urllib.request import Request, urlopen

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

ANSWER_SECONDS = 60
# Whoever makes up both halves of the token passes XSRF protection.
_TOKEN = "61" * 16


class Visitor:
    """A session of its own with the app at an address."""

    def __init__(self, address: str, connection: ClientConnection) -> None:
        self._address, self._connection = address, connection
        self.session_id = ""
        self.elements: list = []
        """What the last run of the script put on the page, in the protocol's own terms."""
        self.send(BackMsg(rerun_script={}))

    def send(self, message: BackMsg) -> None:
        """Say something to the server, and listen to the end of a run where it begins one."""
        self._connection.send(message.SerializeToString())
        while message.WhichOneof("type") == "rerun_script":
            answer = ForwardMsg.FromString(self._connection.recv(timeout=ANSWER_SECONDS))
            if answer.WhichOneof("type") == "new_session":
                self.session_id, self.elements = answer.new_session.initialize.session_id, []
            elif answer.delta.HasField("new_element"):
                self.elements.append(answer.delta.new_element)
            elif answer.HasField("script_finished") and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                return

    def send_bytes(self, content: bytes) -> None:
        """Send what need not be a message, and wait for no answer."""
        self._connection.send(content)

    def download(self, label: str) -> bytes:
        """What a button of the page gives, which is made when it is asked for."""
        button = next(button for button in self.all("download_button") if button.label == label)
        asked = {
            "request_id": "1",
            "session_id": self.session_id,
            "deferred_file": {"file_id": button.deferred_file_id},
        }
        self._connection.send(BackMsg(backend_operation_request=asked).SerializeToString())
        answer = ForwardMsg()
        while answer.WhichOneof("type") != "backend_operation_response":
            answer = ForwardMsg.FromString(self._connection.recv(timeout=ANSWER_SECONDS))
        assert not answer.backend_operation_response.error_msg, answer.backend_operation_response.error_msg
        with urlopen(
            self._address + answer.backend_operation_response.deferred_file.url, timeout=ANSWER_SECONDS
        ) as file:
            return file.read()

    def all(self, kind: str) -> list:
        """Elements of a kind on the page."""
        return [getattr(element, kind) for element in self.elements if element.WhichOneof("type") == kind]

    def change(self, **state) -> None:
        """Send the value of one widget, alone."""
        message = BackMsg()
        message.rerun_script.widget_states.widgets.append(WidgetState(**state))
        self.send(message)

    def press(self, label: str) -> None:
        """A button of the page."""
        self.change(id=next(button.id for button in self.all("button") if button.label == label), trigger_value=True)

    def upload(self, label: str, file_id: str, name: str, content: bytes) -> None:
        """A file for the uploader of that label, under an id of the visitor's choice."""
        part = f'--part\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        request = Request(
            f"{self._address}/_stcore/upload_file/{self.session_id}/{quote(file_id, safe='').replace('.', '%2e')}",
            data=part.encode() + content + b"\r\n--part--\r\n",
            headers={
                "Content-Type": "multipart/form-data; boundary=part",
                "X-Xsrftoken": _TOKEN,
                "Cookie": f"_streamlit_xsrf={_TOKEN}",
            },
            method="PUT",
        )
        with urlopen(request, timeout=ANSWER_SECONDS) as answer:
            assert answer.status == 204
        uploader = next(uploader for uploader in self.all("file_uploader") if uploader.label == label)
        info = {"file_id": file_id, "name": name, "size": len(content), "file_urls": {"file_id": file_id}}
        self.change(id=uploader.id, file_uploader_state_value={"uploaded_file_info": [info]})


@contextmanager
def visiting(address: str) -> Iterator[Visitor]:
    """A visitor who leaves with the block."""
    with connect(
        f"{address.replace('http', 'ws', 1)}/_stcore/stream", subprotocols=["streamlit"], origin=address, max_size=None
    ) as connection:
        yield Visitor(address, connection)
