(function(){var box=document.getElementById("filter"),out=document.getElementById("found");if(!box)return;
box.closest(".filter").hidden=false;
var bodies=[].slice.call(document.querySelectorAll("#numbers-table tbody"));
function run(){var words=box.value.toLowerCase().split(/\s+/).filter(Boolean),n=0;
bodies.forEach(function(body){var any=false;[].slice.call(body.rows).forEach(function(row){if(row.className==="group")return;
var text=row.textContent.toLowerCase(),ok=words.every(function(w){return text.indexOf(w)>=0});row.hidden=!ok;if(ok){any=true;n++}});body.hidden=!any});
out.textContent=n+(n===1?" number":" numbers")}
box.addEventListener("input",run);
addEventListener("hashchange",function(){var row=document.getElementById(decodeURIComponent(location.hash.slice(1)));
if(row&&(row.hidden||row.parentNode.hidden)){box.value="";run();row.scrollIntoView()}});run()})();
