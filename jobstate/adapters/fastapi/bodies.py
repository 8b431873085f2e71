"""What comes in as a body: a job to create, the endpoints that it may name, and the request that belongs to each."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from jobstate.endpoint import Endpoint
from jobstate.errors import InvalidInputError
from jobstate.model import METADATA_KEY, METADATA_PAIRS, METADATA_VALUE, Metadata

_WITHOUT_NUL = r"^[^\u0000]*$"
METADATA_SCHEMA = {
    "type": "object",
    "description": "What the caller keeps with the job.",
    "maxProperties": METADATA_PAIRS,
    "propertyNames": {"minLength": 1, "maxLength": METADATA_KEY, "pattern": _WITHOUT_NUL},
    "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE, "pattern": _WITHOUT_NUL},
}


class Names:
    """The names of endpoints: these and no others, or any when there are none. Checks, and says so in a schema."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [str.__str__(name) for name in names]

    def check(self, name: str) -> str:
        """The name. Raises InvalidInputError for an unknown one."""
        if self.names and name not in self.names:
            raise InvalidInputError("endpoint", f"{name[:80]!r} is unknown; known are {', '.join(self.names)}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked where it stands in a type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        try:
            return self.check(name)
        except InvalidInputError as error:
            raise ValueError(error.problem) from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The names as an enum."""
        return {**handler(schema), "enum": self.names} if self.names else handler(schema)


class CreateJob(BaseModel):
    """The body of a create."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Annotated[str, Field(min_length=1, max_length=255, examples=["/v1/documents/extract"])]
    request: Annotated[dict[str, Any], Field(description="The whole request body for the endpoint.")]
    metadata: Annotated[
        Annotated[Metadata, WithJsonSchema(METADATA_SCHEMA)] | None, Field(examples=[{"batch_id": "batch_001"}])
    ] = None


class Bodies:
    """Says in the schema of `CreateJob` which request belongs to which endpoint."""

    def __init__(self, names: Names, endpoints: Mapping[str, Endpoint[Any, Any]]) -> None:
        self._names = names
        self._endpoints = endpoints

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """One alternative for each endpoint; the plain schema where there is no endpoint."""
        shown = handler(schema)
        if not self._names.names:
            return shown
        plain = handler.resolve_ref_schema(shown)
        return {**plain, "oneOf": [self._alternative(name, handler) for name in self._names.names]}

    def _alternative(self, name: str, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        properties: dict[str, Any] = {"endpoint": {"const": name}}
        if name in self._endpoints:
            properties["request"] = handler(TypeAdapter(self._endpoints[name].request).core_schema)
        return {"title": name, "properties": properties}
