"""The client's calls about persons, their tokens, and who got in."""

from accord_common.api import access_schemas as a
from accord_common.api.calls import Calls

_CSRF_HEADER = "X-CSRF-Token"


class PeopleCalls(Calls):
    """Part of `RegistryClient`; lists are complete unless a method says otherwise."""

    def me(self) -> a.Me:
        """Who this client is: a party's machine, or a person of it."""
        return self._get(a.Me, "/v1/me")

    def invite_person(self, login: str, name: str, role: a.PersonRole) -> a.PersonInvitation:
        """Let a person of the caller's organisation in; the code is shown only here."""
        body = a.PersonRequest(login=login, name=name, role=role)
        return self._post(a.PersonInvitation, "/v1/people", body)

    def people(self) -> list[a.PersonView]:
        """The persons that the caller may see, by id."""
        return self._all(a.PersonView, "/v1/people", lambda item: item.id)

    def person(self, person: str) -> a.PersonView:
        """One person."""
        return self._get(a.PersonView, f"/v1/people/{person}")

    def change_role(self, person: str, role: a.PersonRole) -> a.PersonView:
        """Give a person another role; sessions and tokens end."""
        body = a.RoleRequest(role=role).model_dump(mode="json")
        self._http.request("PUT", f"/v1/people/{person}/role", json=body, again=True)
        return self.person(person)

    def disable_person(self, person: str) -> a.PersonView:
        """Shut an account; sessions and tokens end."""
        return self._post(a.PersonView, f"/v1/people/{person}/disable", None, again=True)

    def enable_person(self, person: str) -> a.PersonView:
        """Open an account again."""
        return self._post(a.PersonView, f"/v1/people/{person}/enable", None, again=True)

    def reset_person(self, person: str, *, second_factor: bool = False) -> a.PersonInvitation:
        """End a person's password, and the second factor if asked; a code makes the next."""
        body = a.ResetRequest(second_factor=second_factor)
        return self._post(a.PersonInvitation, f"/v1/people/{person}/reset", body)

    def set_password(self, code: str, password: str) -> None:
        """Set a password by a one-time code; without a token."""
        body = a.PasswordRequest(code=code, password=password).model_dump(mode="json")
        self._http.request("POST", "/v1/passwords", json=body)

    def sign_in(self, login: str, password: str, factor: str | None = None) -> a.Me:
        """Be a person from here on, as a browser is; end it with `sign_out`."""
        body = a.SignInRequest(login=login, password=password, factor=factor)
        me = self._post(a.Me, "/v1/sessions", body)
        self._http.carry({_CSRF_HEADER: me.csrf or "", "Origin": self._http.url})
        return me

    def sign_out(self) -> None:
        """End the session that `sign_in` began."""
        self._http.request("DELETE", f"/v1/sessions/{self.me().session}")

    def make_token(self, name: str, scopes: list[a.Scope], days: int) -> a.NewToken:
        """Make a token of the person who is signed in; the secret is shown only here."""
        body = a.TokenRequest(name=name, scopes=scopes, days=days)
        return self._post(a.NewToken, "/v1/tokens", body)

    def tokens(self) -> list[a.TokenView]:
        """The tokens that the caller looks after, by id, without their secrets."""
        return self._all(a.TokenView, "/v1/tokens", lambda item: item.id)

    def revoke_token(self, token: str) -> None:
        """End a token."""
        self._http.request("DELETE", f"/v1/tokens/{token}")

    def access_events(self, after: int = 0) -> list[a.AccessEvent]:
        """One page of who got in and who did not, behind sequence `after`."""
        return self._page(a.AccessEvent, "/v1/access-events", {"after": after})
