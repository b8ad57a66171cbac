//! The actions on users, keys, groups, policies and sessions.

use std::sync::Arc;

use super::fault::Fault;
use super::query::Query;
use super::reply::{Answer, iso};
use super::xml::Xml;
use crate::identity::{GroupRow, PolicyRow, SessionRow, UserKey, UserRank, UserRow, random_text};

const IAM: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
const STS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

fn missing(kind: &str, name: &str) -> Fault {
    Fault::new("NoSuchEntity", format!("The {kind} with name {name} cannot be found."))
}

fn taken(kind: &str, name: &str) -> Fault {
    Fault::new("EntityAlreadyExists", format!("{kind} with name {name} already exists."))
}

/// A name that IAM takes.
fn check_name(name: &str) -> Result<(), Fault> {
    let plain = |char: char| char.is_ascii_alphanumeric() || "+=,.@_-".contains(char);
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
        return Err(Fault::new("ValidationError", "a name has 1 to 128 letters, digits and +=,.@_-"));
    }
    Ok(())
}

fn path(query: &Query) -> Result<String, Fault> {
    let path = query.get("Path").unwrap_or("/");
    if !path.starts_with('/') || !path.ends_with('/') || path.len() > 512 {
        return Err(Fault::new("ValidationError", "a path begins and ends with a slash"));
    }
    Ok(path.to_owned())
}

fn user(query: &Query) -> Result<Arc<UserRow>, Fault> {
    match query.get("UserName") {
        Some(name) => query.front.accounts.user_named(&query.account, name).ok_or_else(|| missing("user", name)),
        None => query.visitor.user.clone().ok_or_else(|| missing("user", "")),
    }
}

fn group(query: &Query) -> Result<GroupRow, Fault> {
    let name = query.need("GroupName")?;
    let groups = query.front.accounts.groups(&query.account);
    groups.into_iter().find(|group| group.name == name).map(Arc::unwrap_or_clone).ok_or_else(|| missing("group", name))
}

fn show_user(xml: &mut Xml, name: &str, user: &UserRow) {
    xml.element(name, |xml| {
        xml.leaf("Path", if user.path.is_empty() { "/" } else { &user.path });
        xml.leaf("UserName", &user.name);
        xml.leaf("UserId", &user.id);
        xml.leaf("Arn", user.arn());
        xml.leaf("CreateDate", iso(user.created_ms));
    });
}

fn group_arn(group: &GroupRow) -> String {
    format!("arn:aws:iam::{}:group{}{}", group.account, group.path, group.name)
}

fn show_group(xml: &mut Xml, name: &str, group: &GroupRow) {
    xml.element(name, |xml| {
        xml.leaf("Path", &group.path);
        xml.leaf("GroupName", &group.name);
        xml.leaf("GroupId", &group.name);
        xml.leaf("Arn", group_arn(group));
        xml.leaf("CreateDate", iso(group.created_ms));
    });
}

fn names<'n>(xml: &mut Xml, list: &str, names: impl Iterator<Item = &'n String>) {
    xml.element(list, |xml| {
        for name in names {
            xml.leaf("member", name);
        }
    });
    xml.leaf("IsTruncated", false);
}

fn attached(xml: &mut Xml, query: &Query, arns: &[String]) {
    xml.element("AttachedPolicies", |xml| {
        for arn in arns {
            let policy = query.front.accounts.policy(arn);
            xml.element("member", |xml| {
                xml.leaf("PolicyName", policy.as_ref().map_or(arn.as_str(), |policy| policy.name.as_str()));
                xml.leaf("PolicyArn", arn);
            });
        }
    });
    xml.leaf("IsTruncated", false);
}

/// The text of a policy as IAM gives it back: percent-encoded.
fn encoded(text: &str) -> String {
    super::call::encode(text, super::call::Slash::Encoded)
}

pub(super) async fn serve(query: &Query) -> Answer {
    let action = query.action.as_str();
    if ["GetCallerIdentity", "GetSessionToken", "GetFederationToken"].contains(&action) {
        return session(query).await;
    }
    query.admit("iam", &format!("arn:aws:iam::{}:*", query.account))?;
    if action.contains("Group") {
        return groups(query).await;
    }
    if action.contains("UserPolic") || action.contains("AccessKey") || action.contains("User") {
        return users(query).await;
    }
    match action {
        "ListRoles" => query.answer(IAM, |xml| names(xml, "Roles", std::iter::empty())),
        "ListOpenIDConnectProviders" => query.answer(IAM, |xml| xml.element("OpenIDConnectProviderList", |_xml| {})),
        "GetAccountSummary" => query.answer(IAM, |xml| xml.element("SummaryMap", |_xml| {})),
        _other => policies(query).await,
    }
}

async fn users(query: &Query) -> Answer {
    let accounts = &query.front.accounts;
    match query.action.as_str() {
        "CreateUser" => {
            let name = query.need("UserName")?;
            check_name(name)?;
            if accounts.user_named(&query.account, name).is_some() {
                return Err(taken("User", name));
            }
            let user = UserRow {
                id: format!("AIDA{}", random_text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")?),
                account: query.account.clone(),
                name: name.to_owned(),
                display_name: name.to_owned(),
                path: path(query)?,
                rank: UserRank::Member,
                created_ms: query.now_ms,
                ..UserRow::default()
            };
            accounts.put_user(user.clone()).await?;
            query.answer(IAM, |xml| show_user(xml, "User", &user))
        }
        "GetUser" => {
            let user = user(query)?;
            query.answer(IAM, |xml| show_user(xml, "User", &user))
        }
        "ListUsers" => {
            let prefix = query.get("PathPrefix").unwrap_or("/");
            let mut found = accounts.users(&query.account);
            found.retain(|user| user.rank == UserRank::Member && user.path.starts_with(prefix));
            query.answer(IAM, |xml| {
                xml.element("Users", |xml| {
                    for user in &found {
                        show_user(xml, "member", user);
                    }
                });
                xml.leaf("IsTruncated", false);
            })
        }
        "DeleteUser" => {
            let user = user(query)?;
            let member = accounts.groups(&query.account).iter().any(|group| group.members.contains(&user.name));
            if member || !user.keys.is_empty() || !user.policies.is_empty() || !user.attached.is_empty() {
                return Err(Fault::new("DeleteConflict", "the user still has keys, policies or groups"));
            }
            accounts.delete_user(&user.id).await?;
            query.answer(IAM, |_xml| {})
        }
        "UpdateUser" => {
            let mut user = Arc::unwrap_or_clone(user(query)?);
            if let Some(name) = query.get("NewUserName") {
                check_name(name)?;
                if accounts.user_named(&query.account, name).is_some() {
                    return Err(taken("User", name));
                }
                name.clone_into(&mut user.name);
            }
            if let Some(path) = query.get("NewPath") {
                path.clone_into(&mut user.path);
            }
            accounts.put_user(user).await?;
            query.answer(IAM, |_xml| {})
        }
        _other if query.action.contains("AccessKey") => keys(query).await,
        _other => user_policies(query).await,
    }
}

async fn keys(query: &Query) -> Answer {
    /// Keys of one user; AWS allows two, which is too few for rotation with several tools.
    const KEYS_MAX: usize = 4;
    let mut user = Arc::unwrap_or_clone(user(query)?);
    match query.action.as_str() {
        "CreateAccessKey" => {
            if user.keys.len() >= KEYS_MAX {
                return Err(Fault::new("LimitExceeded", format!("a user has at most {KEYS_MAX} access keys")));
            }
            let key = UserKey::generate("AKIA")?;
            user.keys.push(key.clone());
            let name = user.name.clone();
            query.front.accounts.put_user(user).await?;
            query.answer(IAM, |xml| {
                xml.element("AccessKey", |xml| {
                    xml.leaf("UserName", &name);
                    xml.leaf("AccessKeyId", &key.id);
                    xml.leaf("Status", "Active");
                    xml.leaf("SecretAccessKey", key.secret().expose());
                    xml.leaf("CreateDate", iso(key.created_ms));
                });
            })
        }
        "ListAccessKeys" => query.answer(IAM, |xml| {
            xml.element("AccessKeyMetadata", |xml| {
                for key in &user.keys {
                    xml.element("member", |xml| {
                        xml.leaf("UserName", &user.name);
                        xml.leaf("AccessKeyId", &key.id);
                        xml.leaf("Status", if key.active { "Active" } else { "Inactive" });
                        xml.leaf("CreateDate", iso(key.created_ms));
                    });
                }
            });
            xml.leaf("IsTruncated", false);
        }),
        "UpdateAccessKey" => {
            let (id, status) = (query.need("AccessKeyId")?, query.need("Status")?);
            let key = user.keys.iter_mut().find(|key| key.id == id).ok_or_else(|| missing("access key", id))?;
            key.active = match status {
                "Active" => true,
                "Inactive" => false,
                _other => return Err(Fault::new("ValidationError", "`Status` is Active or Inactive")),
            };
            query.front.accounts.put_user(user).await?;
            query.answer(IAM, |_xml| {})
        }
        "DeleteAccessKey" => {
            let id = query.need("AccessKeyId")?;
            let before = user.keys.len();
            user.keys.retain(|key| key.id != id);
            if user.keys.len() == before {
                return Err(missing("access key", id));
            }
            query.front.accounts.put_user(user).await?;
            query.answer(IAM, |_xml| {})
        }
        other => Err(unknown(other)),
    }
}

fn unknown(action: &str) -> Fault {
    Fault::new("InvalidAction", format!("the action `{action}` is not known here"))
}

async fn user_policies(query: &Query) -> Answer {
    let mut user = Arc::unwrap_or_clone(user(query)?);
    match query.action.as_str() {
        "PutUserPolicy" => {
            let name = query.need("PolicyName")?;
            check_name(name)?;
            user.policies.insert(name.to_owned(), query.policy("PolicyDocument")?);
        }
        "GetUserPolicy" => {
            let name = query.need("PolicyName")?;
            let text = user.policies.get(name).ok_or_else(|| missing("user policy", name))?;
            return query.answer(IAM, |xml| {
                xml.leaf("UserName", &user.name);
                xml.leaf("PolicyName", name);
                xml.leaf("PolicyDocument", encoded(text));
            });
        }
        "ListUserPolicies" => return query.answer(IAM, |xml| names(xml, "PolicyNames", user.policies.keys())),
        "DeleteUserPolicy" => {
            let name = query.need("PolicyName")?;
            user.policies.remove(name).ok_or_else(|| missing("user policy", name))?;
        }
        "AttachUserPolicy" => attach(query, &mut user.attached)?,
        "DetachUserPolicy" => detach(query, &mut user.attached)?,
        "ListAttachedUserPolicies" => return query.answer(IAM, |xml| attached(xml, query, &user.attached)),
        other => return Err(unknown(other)),
    }
    query.front.accounts.put_user(user).await?;
    query.answer(IAM, |_xml| {})
}

fn attach(query: &Query, list: &mut Vec<String>) -> Result<(), Fault> {
    let arn = query.need("PolicyArn")?;
    if query.front.accounts.policy(arn).is_none() {
        return Err(missing("policy", arn));
    }
    if !list.iter().any(|have| have == arn) {
        list.push(arn.to_owned());
    }
    Ok(())
}

fn detach(query: &Query, list: &mut Vec<String>) -> Result<(), Fault> {
    let arn = query.need("PolicyArn")?;
    let before = list.len();
    list.retain(|have| have != arn);
    if list.len() == before { Err(missing("policy", arn)) } else { Ok(()) }
}

async fn groups(query: &Query) -> Answer {
    let accounts = &query.front.accounts;
    match query.action.as_str() {
        "CreateGroup" => {
            let name = query.need("GroupName")?;
            check_name(name)?;
            if group(query).is_ok() {
                return Err(taken("Group", name));
            }
            let group = GroupRow {
                account: query.account.clone(),
                name: name.to_owned(),
                path: path(query)?,
                created_ms: query.now_ms,
                ..GroupRow::default()
            };
            accounts.put_group(group.clone()).await?;
            return query.answer(IAM, |xml| show_group(xml, "Group", &group));
        }
        "ListGroups" | "ListGroupsForUser" => {
            let prefix = query.get("PathPrefix").unwrap_or("/");
            let mut found = accounts.groups(&query.account);
            if query.action == "ListGroupsForUser" {
                let name = query.need("UserName")?.to_owned();
                found.retain(|group| group.members.contains(&name));
            }
            found.retain(|group| group.path.starts_with(prefix));
            return query.answer(IAM, |xml| {
                xml.element("Groups", |xml| found.iter().for_each(|group| show_group(xml, "member", group)));
                xml.leaf("IsTruncated", false);
            });
        }
        _other => {}
    }
    let mut group = group(query)?;
    match query.action.as_str() {
        "GetGroup" => {
            return query.answer(IAM, |xml| {
                show_group(xml, "Group", &group);
                xml.element("Users", |xml| {
                    for user in group.members.iter().filter_map(|name| accounts.user_named(&query.account, name)) {
                        show_user(xml, "member", &user);
                    }
                });
                xml.leaf("IsTruncated", false);
            });
        }
        "DeleteGroup" => {
            if !group.members.is_empty() || !group.policies.is_empty() || !group.attached.is_empty() {
                return Err(Fault::new("DeleteConflict", "the group still has users or policies"));
            }
            accounts.delete_group(&query.account, &group.name).await?;
            return query.answer(IAM, |_xml| {});
        }
        "AddUserToGroup" => {
            let user = user(query)?;
            if !group.members.contains(&user.name) {
                group.members.push(user.name.clone());
            }
        }
        "RemoveUserFromGroup" => {
            let user = user(query)?;
            group.members.retain(|name| *name != user.name);
        }
        "PutGroupPolicy" => {
            let name = query.need("PolicyName")?;
            check_name(name)?;
            group.policies.insert(name.to_owned(), query.policy("PolicyDocument")?);
        }
        "GetGroupPolicy" => {
            let name = query.need("PolicyName")?;
            let text = group.policies.get(name).ok_or_else(|| missing("group policy", name))?;
            return query.answer(IAM, |xml| {
                xml.leaf("GroupName", &group.name);
                xml.leaf("PolicyName", name);
                xml.leaf("PolicyDocument", encoded(text));
            });
        }
        "ListGroupPolicies" => return query.answer(IAM, |xml| names(xml, "PolicyNames", group.policies.keys())),
        "DeleteGroupPolicy" => {
            let name = query.need("PolicyName")?;
            group.policies.remove(name).ok_or_else(|| missing("group policy", name))?;
        }
        "AttachGroupPolicy" => attach(query, &mut group.attached)?,
        "DetachGroupPolicy" => detach(query, &mut group.attached)?,
        "ListAttachedGroupPolicies" => return query.answer(IAM, |xml| attached(xml, query, &group.attached)),
        other => return Err(unknown(other)),
    }
    accounts.put_group(group).await?;
    query.answer(IAM, |_xml| {})
}

async fn policies(query: &Query) -> Answer {
    let accounts = &query.front.accounts;
    let show = |xml: &mut Xml, name: &str, policy: &PolicyRow| {
        xml.element(name, |xml| {
            xml.leaf("PolicyName", &policy.name);
            xml.leaf("PolicyId", &policy.name);
            xml.leaf("Arn", &policy.arn);
            xml.leaf("Path", "/");
            xml.leaf("DefaultVersionId", "v1");
            xml.leaf("IsAttachable", true);
            xml.leaf("CreateDate", iso(policy.created_ms));
        });
    };
    let own = |arn: &str| {
        accounts.policy(arn).filter(|policy| policy.account == query.account).ok_or_else(|| missing("policy", arn))
    };
    match query.action.as_str() {
        "CreatePolicy" => {
            let name = query.need("PolicyName")?;
            check_name(name)?;
            let arn = format!("arn:aws:iam::{}:policy/{name}", query.account);
            if accounts.policy(&arn).is_some() {
                return Err(taken("Policy", name));
            }
            let policy = PolicyRow {
                arn,
                account: query.account.clone(),
                name: name.to_owned(),
                text: query.policy("PolicyDocument")?,
                created_ms: query.now_ms,
            };
            accounts.put_policy(policy.clone()).await?;
            query.answer(IAM, |xml| show(xml, "Policy", &policy))
        }
        "GetPolicy" => {
            let policy = own(query.need("PolicyArn")?)?;
            query.answer(IAM, |xml| show(xml, "Policy", &policy))
        }
        "GetPolicyVersion" => {
            let policy = own(query.need("PolicyArn")?)?;
            query.answer(IAM, |xml| {
                xml.element("PolicyVersion", |xml| {
                    xml.leaf("Document", encoded(&policy.text));
                    xml.leaf("VersionId", "v1");
                    xml.leaf("IsDefaultVersion", true);
                });
            })
        }
        "ListPolicies" => {
            let found = accounts.policies(&query.account);
            query.answer(IAM, |xml| {
                xml.element("Policies", |xml| found.iter().for_each(|policy| show(xml, "member", policy)));
                xml.leaf("IsTruncated", false);
            })
        }
        "DeletePolicy" => {
            let policy = own(query.need("PolicyArn")?)?;
            let used = accounts.users(&query.account).iter().any(|user| user.attached.contains(&policy.arn))
                || accounts.groups(&query.account).iter().any(|group| group.attached.contains(&policy.arn));
            if used {
                return Err(Fault::new("DeleteConflict", "the policy is still attached"));
            }
            accounts.delete_policy(&policy.arn).await?;
            query.answer(IAM, |_xml| {})
        }
        other => Err(unknown(other)),
    }
}

async fn session(query: &Query) -> Answer {
    let user = query.visitor.user.clone();
    if query.action == "GetCallerIdentity" {
        let arn = match &query.visitor.caller {
            dh_policy::access::Caller::User(user) => user.arn.clone(),
            dh_policy::access::Caller::Anonymous | dh_policy::access::Caller::Service(_) => String::new(),
        };
        return query.answer(STS, |xml| {
            xml.leaf("UserId", user.as_ref().map_or(query.account.as_str(), |user| user.id.as_str()));
            xml.leaf("Account", &query.account);
            xml.leaf("Arn", &arn);
        });
    }
    let user = user.ok_or_else(Fault::denied)?;
    let seconds: u64 = match query.get("DurationSeconds") {
        None => 43_200,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (900..=129_600).contains(seconds))
            .ok_or_else(|| Fault::new("ValidationError", "DurationSeconds is from 900 to 129600"))?,
    };
    let limits = if query.get("Policy").is_some() { vec![query.policy("Policy")?] } else { Vec::new() };
    let key = UserKey::generate("ASIA")?;
    let token = random_text(64, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")?;
    let expires_ms = query.now_ms.saturating_add(seconds.saturating_mul(1_000));
    let row =
        SessionRow { key: key.clone(), token: token.clone(), user: user.id.clone(), policies: limits, expires_ms };
    query.front.accounts.put_session(row).await?;
    query.answer(STS, |xml| {
        xml.element("Credentials", |xml| {
            xml.leaf("AccessKeyId", &key.id);
            xml.leaf("SecretAccessKey", key.secret().expose());
            xml.leaf("SessionToken", &token);
            xml.leaf("Expiration", iso(expires_ms));
        });
    })
}
